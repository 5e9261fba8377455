"""MongoDB's error codes that the adapter distinguishes. Pure data."""

from __future__ import annotations

DUPLICATE = 11000
INVALID_OPTIONS = 72
UNAUTHORIZED = frozenset({13, 18, 8000})
# fmt: off
PASSING = frozenset({
    *(1, 6, 7, 8, 24, 43, 46, 50, 63, 64, 79, 89, 90, 91, 94, 100, 112, 117, 133, 134, 136),
    *(150, 175, 189, 202, 216, 225, 234, 237, 246, 251, 262, 264, 279),
    *(290, 314, 317, 358, 365, 384, 391, 402, 9001, 10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031),
    16500,  # Azure Cosmos DB: the request rate is too large
})
# fmt: on
"""Codes of errors that pass: no primary, a shutdown, a conflict, a timeout, a full disk; and those that say nothing."""
