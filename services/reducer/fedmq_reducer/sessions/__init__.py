"""Sessions: a queue, and one routine that runs the session at its head from its first model to its last.

Read `synchronous` first: it is the order of a session, and each of its steps is one file of `steps`.
"""
