"""The contract between the roles: every message, the policy of a session and the topology.

Pure data: frozen models that validate themselves, and exchanges, queues, bindings and permissions
as values. Nothing here does I/O, and nothing here imports another package of this project, so
that a peer in any language can be written from it.
"""
