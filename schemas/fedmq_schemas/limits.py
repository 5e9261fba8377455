"""Limits that clients and messages share. Imports nothing, because worker processes load it."""

DEEPEST = 100
"""Greatest depth of lists and maps in a metric. A message allows 255, and events and records nest metrics further."""
