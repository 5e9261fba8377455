"""Compute packages: how one is read, and its commands as a trainer."""
