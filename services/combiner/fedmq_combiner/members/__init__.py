"""Who the clients of a combiner are: which are present, and which processes work under their names."""
