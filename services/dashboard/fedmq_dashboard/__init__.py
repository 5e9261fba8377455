"""The dashboard: a live view of sessions, rounds, clients and models.

It reads events and records, and writes neither. `feed`, which is pure, turns events into the state that pages show.
"""
