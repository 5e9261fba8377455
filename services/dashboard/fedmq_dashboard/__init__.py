"""The dashboard: a live view of sessions, rounds, clients and models. It only reads events and records."""
