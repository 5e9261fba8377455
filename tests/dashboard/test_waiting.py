"""How long rounds waited for each client."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedmq_dashboard.columns import Columns, columns_of
from fedmq_dashboard.waiting import TimedRound, delays, paces

PLANNED = 1000.0


def answers(*rows: tuple[str, str, float | None, dict[str, float]]) -> Columns:
    """Returns columns of (client, outcome, seconds from the plan to the outcome, measured steps)."""
    steps = sorted({step for _, _, _, measured in rows for step in measured})
    return columns_of(
        {
            "session": "s",
            "round": 1,
            "attempt": 1,
            "clients": [client for client, _, _, _ in rows],
            "outcomes": [outcome for _, outcome, _, _ in rows],
            "weights": [1 for _ in rows],
            "norms": [None for _ in rows],
            "at": [None if after is None else PLANNED + after for _, _, after, _ in rows],
            "seconds": {step: [measured.get(step) for _, _, _, measured in rows] for step in steps},
            "reasons": {},
        }
    )


def timed(columns: Columns, committed_after: float | None = None, timeout: float = 6.0) -> TimedRound:
    committed = None if committed_after is None else PLANNED + committed_after
    return TimedRound(columns, PLANNED, PLANNED + timeout, committed)


ONE_MISSES = answers(("a", "accepted", 1.0, {}), ("b", "accepted", 2.0, {}), ("c", "absent", None, {}))


def test_a_client_that_gave_no_answer_held_the_round_until_the_deadline() -> None:
    assert timed(ONE_MISSES, 6.1).ends().tolist() == [1.0, 2.0, 6.0]


def test_a_round_that_closed_before_the_deadline_waited_until_its_commit() -> None:
    assert timed(ONE_MISSES, 3.0).ends().tolist() == [1.0, 2.0, 3.0]


def test_a_late_client_held_the_round_until_the_deadline_too() -> None:
    late = answers(("a", "accepted", 1.0, {}), ("b", "discarded", None, {}))
    assert timed(late, 6.1).ends().tolist() == [1.0, 6.0]


def test_the_end_of_a_task_that_nobody_recorded_is_not_known() -> None:
    voided = timed(answers(("a", "failed", None, {})), 6.1)
    assert np.isnan(voided.ends()).all()
    assert voided.costs().tolist() == [0.0]


def test_each_second_is_shared_by_those_who_had_not_answered() -> None:
    costs = timed(ONE_MISSES, 6.1).costs()
    assert costs.tolist() == pytest.approx([1 / 3, 1 / 3 + 1 / 2, 1 / 3 + 1 / 2 + 4])
    assert costs.sum() == pytest.approx(6.0)


def test_two_absent_clients_share_the_wait() -> None:
    two = answers(("a", "accepted", 2.0, {}), ("b", "absent", None, {}), ("c", "absent", None, {}))
    assert timed(two, 6.1).costs().tolist() == pytest.approx([2 / 3, 2 / 3 + 2, 2 / 3 + 2])


def test_the_client_that_misses_deadlines_delays_most_even_if_another_is_the_last_to_answer() -> None:
    other = answers(("a", "accepted", 1.0, {}), ("b", "accepted", 4.0, {}), ("c", "accepted", 1.0, {}))
    found = delays([timed(ONE_MISSES, 6.1), timed(ONE_MISSES, 6.1), timed(other, 4.1)])
    assert [(delay.client, delay.missed, delay.asked) for delay in found] == [("c", 2, 3), ("b", 0, 3), ("a", 0, 3)]
    assert sum(delay.seconds for delay in found) == pytest.approx(6 + 6 + 4)
    assert delays([]) == []


def test_a_client_is_asked_only_in_the_rounds_that_drew_it() -> None:
    drawn = answers(("a", "accepted", 1.0, {}))
    found = delays([timed(ONE_MISSES, 6.1), timed(drawn, 1.1)])
    assert {delay.client: (delay.missed, delay.asked) for delay in found} == {"a": (0, 2), "b": (0, 1), "c": (1, 1)}
    assert {delay.client: delay.seconds for delay in found} == pytest.approx({"a": 4 / 3, "b": 5 / 6, "c": 29 / 6})


def test_a_client_that_queued_for_a_worker_is_not_slow_itself() -> None:
    queued = {"fetch": 1.0, "train": 10.0, "upload": 3.0, "total": 51.0}
    slow = {"fetch": 1.0, "train": 25.0, "upload": 2.0, "total": 28.0}
    one = answers(("queues", "accepted", 51.0, queued), ("works", "accepted", 28.0, slow))
    found = paces([timed(one, 52.0, timeout=100.0)])
    assert [(pace.client, pace.own, pace.queued) for pace in found] == [("works", 28.0, 0.0), ("queues", 14.0, 37.0)]
    assert [pace.ratio for pace in found] == pytest.approx([28 / 21, 14 / 21])


def test_a_client_that_never_reported_its_work_has_no_pace() -> None:
    assert paces([timed(ONE_MISSES, 6.1)]) == []
    assert math.isnan(timed(ONE_MISSES, 6.1).own()[0])
