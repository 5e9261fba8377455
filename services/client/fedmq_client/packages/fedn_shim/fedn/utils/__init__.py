"""Stands in for `fedn.utils`."""
