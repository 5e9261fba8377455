"""Limits that trainers' side and messages agree on; imports nothing, as a worker process loads it."""

DEEPEST = 100
"""Levels of a metric's lists and maps. A message takes 255 in all, and what tells of metrics nests them further."""
