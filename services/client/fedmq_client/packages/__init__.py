"""Compute packages: reading one, and running its commands as a trainer."""
