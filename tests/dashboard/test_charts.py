"""What plots are drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard.test_columns_and_matrix import columns
from fedmq_dashboard.charts import outcomes, waterfall
from fedmq_dashboard.columns import Columns, columns_of
from fedmq_dashboard.pages.models import lanes
from fedmq_dashboard.pages.sessions import differences


def timed(at: float | None, **seconds: float | None) -> Columns:
    return columns_of(
        {
            "session": "s",
            "round": 1,
            "attempt": 1,
            "clients": ["a"],
            "outcomes": ["accepted"],
            "weights": [1],
            "norms": [1.0],
            "at": [at],
            "seconds": {step: [value] for step, value in seconds.items()},
            "reasons": {},
        }
    )


def test_the_steps_of_a_client_end_when_its_update_was_folded() -> None:
    one = timed(120.0, fetch=1.0, validate=2.0, train=8.0, upload=1.5, total=14.0, fold=0.5, transit=0.25)
    parts = waterfall.segments(one, 100.0)
    assert {step: float(values[0]) for step, values in parts.items()} == {
        "sent": 5.25,
        "waited": 1.5,
        "fetch": 1.0,
        "validate": 2.0,
        "train": 8.0,
        "upload": 1.5,
        "returned": 0.25,
        "fold": 0.5,
    }
    assert sum(float(values[0]) for values in parts.values()) == pytest.approx(20.0)


@pytest.mark.parametrize("transit", [-3600.0, 3600.0])
def test_a_clients_wrong_clock_does_not_move_its_steps(transit: float) -> None:
    parts = waterfall.segments(timed(120.0, train=8.0, total=8.0, fold=0.0, transit=transit), 100.0)
    assert float(parts["train"][0]) == 8.0
    assert sum(float(values[0]) for values in parts.values()) == pytest.approx(20.0)


def test_what_nobody_told_takes_no_time() -> None:
    parts = waterfall.segments(timed(None), 100.0)
    assert all(float(values[0]) == 0.0 for values in parts.values())


def test_stragglers_are_those_who_are_slow_as_a_rule() -> None:
    rounds = []
    for number in (1, 2, 3):
        one = columns(number, a="accepted", b="accepted", c="accepted")
        one.at[:] = [110.0, 120.0, 110.0]
        rounds.append((one, 100.0))
    assert waterfall.stragglers(rounds, most=1) == [("b", 20.0, 2.0)]
    assert waterfall.stragglers([]) == []


def test_the_slowest_rows_are_in_the_order_in_which_they_answered() -> None:
    one = columns(1, a="accepted", b="accepted", c="absent", d="accepted")
    one.at[:] = [130.0, 110.0, np.nan, 120.0]
    assert [one.clients[index] for index in waterfall.slowest_rows(one, 2)] == ["d", "a"]


def test_late_updates_are_told_apart_from_absent_clients() -> None:
    document = {"round": 1, "counts": {"accepted": 3, "absent": 2}}
    bars = outcomes.draw([document], {1: 1}).children[1].children.figure["data"]  # type: ignore[union-attr]
    assert {bar["name"]: bar["y"] for bar in bars} == {"accepted": [3], "late": [1], "absent": [1]}


def test_a_branch_of_the_trail_gets_a_lane_of_its_own() -> None:
    def model(name: str, parent: str | None, at: float) -> dict[str, object]:
        return {"model": name, "parent": parent, "created_at": at}

    trail = [
        model("b2", "b1", 5),
        model("b1", "seed", 4),
        model("a2", "a1", 3),
        model("a1", "seed", 2),
        model("seed", None, 1),
    ]
    assert lanes(trail) == {"seed": (0, 0), "a1": (1, 0), "a2": (2, 0), "b1": (1, 1), "b2": (2, 1)}


def test_a_model_whose_parent_is_not_known_is_a_root() -> None:
    assert lanes([{"model": "a", "parent": "gone", "created_at": 1.0}]) == {"a": (0, 0)}


def test_policies_are_compared_field_by_field() -> None:
    one = {"rounds": 3, "strategy": {"name": "fedavg"}, "train": {"epochs": 1}}
    other = {"rounds": 3, "strategy": {"name": "fedadam"}, "train": {}}
    assert differences([one, other]) == {
        "strategy.name": ["fedavg", "fedadam"],
        "train": [None, {}],
        "train.epochs": [1, None],
    }
