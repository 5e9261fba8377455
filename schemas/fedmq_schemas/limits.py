"""Limits that clients and messages share. Imports no library, because worker processes load it."""

from __future__ import annotations

import re
from typing import Any

DEEPEST = 20
"""Greatest depth of lists and maps in one metric. Records nest metrics further, and a record store accepts 100 levels."""
DEEPEST_DATA = DEEPEST + 10
"""Greatest depth of lists and maps in the data of an event, which hold metrics and policies."""
METRICS_BYTES = 40_000
"""Greatest size of all metrics of one result, as msgpack. The rest of a message of 64 KB is for its other fields."""
MOST_VALUES = METRICS_BYTES
"""Greatest number of values in lists and maps, all levels together: as many as METRICS_BYTES can hold."""
MOST_METRICS = 500
LONGEST_KEY = 128
"""Greatest number of characters of a metric's name, and of any other key of a map."""
LONGEST_TEXT = 64 * 1024
"""Greatest number of characters of a text. No message is longer."""
LONGEST_REASON = 2_000
LONGEST_TRACEBACK = 8_000
MOST_LABELS = 64
LONGEST_LABEL = 256
LARGEST = 1e100
"""Greatest number in a metric. The squares of a million of them, each times the greatest weight, have a finite sum."""
LARGEST_INTEGER = 2**63 - 1
MOST_NOTES = 10
"""Greatest number of notes on one result."""
LONGEST_NOTE = 300
"""Greatest number of characters of one note."""
MOST_EVENTS = 100
"""Greatest number of events in one message."""
MOST_OF_CLIENT = 10
"""Greatest number of events in one message of a client, whose allowance counts messages."""
MOST_REASONS = 3
"""Greatest number of reasons in a partial."""

_HALF = re.compile("[\ud800-\udfff]")
"""Halves of a pair of surrogates, which UTF-8 has not. NUL is what a record store refuses in a key."""


def safe(text: str) -> str:
    """Returns the text with a mark for each character that no message can hold: `␀` for NUL, `?` for half a character."""
    return text.replace("\x00", "\N{SYMBOL FOR NULL}").encode(errors="replace").decode()


def check_plain(value: Any, deepest: int = DEEPEST) -> Any:
    """Returns a value that JSON can say, as it is. Raises ValueError if it is beyond these limits.

    Works level by level and without recursion, which a deep value could make fail.
    """
    level, depth, count = [value], 0, 0
    while level:
        count += len(level)
        if depth > deepest:
            raise ValueError(f"it is nested more than {deepest} deep")
        if count > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES} values")
        inside: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                for key in item:
                    check_key(key)
                inside += item.values()
            elif isinstance(item, list):
                inside += item
            elif not (type(item) is float and -LARGEST <= item <= LARGEST):  # most are, and need no call
                _check_scalar(item)
        level = inside
        depth += 1
    return value


def _check_scalar(value: Any) -> None:
    if isinstance(value, float):
        if not -LARGEST <= value <= LARGEST:
            raise ValueError(f"{value} is no finite number of at most {LARGEST:g}")
    elif isinstance(value, str):
        check_text(value, LONGEST_TEXT)
    elif isinstance(value, int):
        if not -LARGEST_INTEGER - 1 <= value <= LARGEST_INTEGER:
            raise ValueError("an integer does not fit into 64 bits")
    elif value is not None:
        raise ValueError(f"a {type(value).__name__} is nothing that JSON can say")


def check_key(key: Any) -> None:
    """Raises ValueError unless the key is a text that a map of a message can have."""
    if not isinstance(key, str):
        raise ValueError(f"a key is a {type(key).__name__} and no text")
    if not key:
        raise ValueError("a key is empty")
    check_text(key, LONGEST_KEY)


def check_text(text: str, longest: int) -> None:
    """Raises ValueError unless a message can hold the text."""
    if len(text) > longest:
        raise ValueError(f"a text has {len(text)} characters, more than {longest}")
    if "\x00" in text or not (text.isascii() or _HALF.search(text) is None):
        raise ValueError("a text holds NUL or half a character")
