"""A client's role in an alliance: which task runs next, what is published again, and what carries it out."""
