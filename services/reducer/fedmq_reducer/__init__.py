"""The reducer: the one coordinator of an alliance.

It assigns clients to combiners, runs sessions round by round, commits each model and answers the
REST API. `core` decides and is pure; `app` wires it to the broker, the stores and the clock. It
alone writes the records, and only while it holds the lease.
"""
