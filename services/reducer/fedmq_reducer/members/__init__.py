"""Which clients and combiners there are, and who works for whom. Pure."""
