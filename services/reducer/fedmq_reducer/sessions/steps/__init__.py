"""The steps of a session, in the order in which a course takes them."""
