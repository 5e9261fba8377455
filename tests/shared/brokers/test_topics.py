"""Topic routing agrees with a plain restatement of its rule, for any pattern and key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedmq.brokers.memory.topics import TopicTable

words = st.sampled_from(["a", "b", "c"])
keys = st.lists(words, min_size=1, max_size=5).map(".".join)
patterns = st.lists(st.one_of(words, st.sampled_from(["*", "#"])), min_size=1, max_size=5).map(".".join)


def matches(pattern: list[str], key: list[str]) -> bool:
    if not pattern:
        return not key
    if pattern[0] == "#":
        return matches(pattern[1:], key) or (bool(key) and matches(pattern, key[1:]))
    return bool(key) and pattern[0] in ("*", key[0]) and matches(pattern[1:], key[1:])


@given(st.lists(patterns, max_size=6), st.lists(keys, min_size=1, max_size=4))
def test_a_key_reaches_exactly_the_patterns_that_match_it(bound: list[str], asked: list[str]) -> None:
    table: TopicTable[str] = TopicTable()
    for pattern in bound:
        table.bind(pattern, pattern)
    for key in asked * 2:
        expected = {pattern for pattern in bound if matches(pattern.split("."), key.split("."))}
        found = table.match(key)
        assert set(found) == expected
        assert len(found) == len(expected)


def test_a_binding_made_or_taken_away_counts_at_once() -> None:
    table: TopicTable[str] = TopicTable()
    assert table.match("a.b") == ()
    table.bind("a.#", "queue")
    table.bind("a.#", "queue")
    assert table.match("a.b") == ("queue",)
    table.unbind("a.#", "queue")
    table.unbind("a.#", "queue")
    assert table.match("a.b") == ()
