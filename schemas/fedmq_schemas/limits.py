"""Limits that clients and messages share. Imports nothing, because worker processes load it."""

DEEPEST = 100
"""Greatest depth of lists and maps in a metric. A message allows 255, and events and records nest metrics further."""
METRICS_BYTES = 40_000
"""Greatest size of all metrics of one result, as msgpack. The rest of a message of 64 KB is for its other fields."""
MOST_NOTES = 10
"""Greatest number of notes on one result."""
LONGEST_NOTE = 300
"""Greatest number of characters of one note."""
MOST_REASONS = 3
"""Greatest number of reasons in a partial."""
