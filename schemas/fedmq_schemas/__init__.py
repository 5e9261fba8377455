"""The contract between the roles: messages, records, the policy of a session, and the topology.

Pure data: self-validating frozen models, and exchanges, queues, bindings and permissions as values. This package does
no I/O and imports no other package of the project. A peer in any language can be written from it.
"""
