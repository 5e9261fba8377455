"""Senders take turns within their allowances, and what is turned away is the longest line's."""

from __future__ import annotations

from collections.abc import Iterator

from fedmq.runtime.turns import Turns


def turns(most_waiting: int = 100, most_known: int = 100) -> Turns[str]:
    return Turns(rate=2.0, burst=3.0, most_waiting=most_waiting, most_known=most_known)


def taken(found: Turns[str], now: float = 0.0) -> list[str]:
    def each() -> Iterator[str]:
        while (item := found.take(now)[0]) is not None:
            yield item

    return list(each())


def put(found: Turns[str], items: str, now: float = 0.0) -> list[tuple[str, str] | None]:
    """Puts items such as `a1`, whose sender is their letter. Returns what was turned away."""
    return [away for item in items.split() if (away := found.put(item[0], item, now)) is not None]


def test_senders_take_turns_and_each_ones_messages_keep_their_order() -> None:
    found = turns()
    put(found, "a1 a2 a3 b1 c1 c2")
    assert taken(found) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_a_sender_without_allowance_waits_and_the_others_do_not() -> None:
    found = turns()
    put(found, "a1 a2 a3 a4 a5 b1")
    assert taken(found) == ["a1", "b1", "a2", "a3"]
    assert found.take(0.0) == (None, 0.5)
    assert taken(found, 0.5) == ["a4"]
    put(found, "b2", 0.5)
    assert taken(found, 0.5) == ["b2"]
    assert taken(found, 1.0) == ["a5"]
    assert found.take(1.0) == (None, None)


def test_the_soonest_allowance_is_awaited() -> None:
    found = turns()
    put(found, "a1 a2 a3 a4")
    taken(found)
    put(found, "b1 b2 b3 b4", 0.25)
    taken(found, 0.25)
    assert found.take(0.25) == (None, 0.25)


def test_an_allowance_grows_no_further_than_the_burst() -> None:
    found = turns()
    put(found, "a1")
    taken(found)
    put(found, "a2 a3 a4 a5", 1_000.0)
    assert taken(found, 1_000.0) == ["a2", "a3", "a4"]


def test_the_newest_of_the_longest_line_is_turned_away() -> None:
    found = turns(most_waiting=3)
    assert put(found, "a1 a2 b1") == []
    assert put(found, "a3") == [("a", "a3")]
    assert put(found, "b2") == [("a", "a2")]
    assert put(found, "c1") == [("b", "b2")]
    assert taken(found) == ["a1", "b1", "c1"]


def test_lines_that_are_emptied_keep_their_allowances() -> None:
    found = turns()
    put(found, "a1 a2 a3 a4")
    assert len(taken(found)) == 3
    found.clear()
    assert found.take(0.0) == (None, None)
    put(found, "a5")
    assert found.take(0.0) == (None, 0.5)


def test_the_sender_that_is_silent_for_longest_is_forgotten_and_none_that_waits() -> None:
    found = turns(most_known=2)
    put(found, "a1 a2 a3 b1 b2 b3 b4")
    taken(found)
    put(found, "c1")  # a is forgotten
    put(found, "a4")  # no one is: b and c wait
    assert taken(found) == ["c1", "a4"]
    assert taken(found, 0.5) == ["b4"]
