"""The dashboard: a live view of sessions, rounds, clients and models.

It reads events and records and writes neither. `feed` turns events into what the pages show and is
pure.
"""
