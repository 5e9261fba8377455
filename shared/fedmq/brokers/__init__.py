"""Brokers: the port in `base`, one adapter a file."""
