"""The `fedmq` command, and the sandbox that runs a whole alliance in one process.

Roles are imported when a command needs them, and a missing dependency is answered with the extra
that brings it.
"""
