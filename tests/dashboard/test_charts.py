"""What plots are drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dashboard.test_columns_and_matrix import columns
from fedmq_dashboard.charts import curves, outcomes, waterfall
from fedmq_dashboard.columns import columns_of
from fedmq_dashboard.pages.models import lanes
from fedmq_dashboard.pages.sessions import differences
from fedmq_dashboard.waiting import TimedRound


def timed(at: float | None, outcome: str = "accepted", **seconds: float | None) -> TimedRound:
    columns = columns_of(
        {
            "session": "s",
            "round": 1,
            "attempt": 1,
            "clients": ["a"],
            "outcomes": [outcome],
            "weights": [1],
            "norms": [1.0],
            "at": [at],
            "seconds": {step: [value] for step, value in seconds.items()},
            "reasons": {},
        }
    )
    return TimedRound(columns, 100.0, 160.0, 161.0)


def spent(one: TimedRound) -> dict[str, float]:
    return {step: float(values[0]) for step, values in waterfall.segments(one).items() if values[0]}


def test_the_steps_of_a_client_end_when_its_update_was_folded() -> None:
    one = timed(120.0, fetch=1.0, validate=2.0, train=8.0, upload=1.5, total=14.0, fold=0.5, transit=0.25)
    assert spent(one) == {
        "sent": 5.25,
        "waited": 1.5,
        "fetch": 1.0,
        "validate": 2.0,
        "train": 8.0,
        "upload": 1.5,
        "returned": 0.25,
        "fold": 0.5,
    }
    assert sum(spent(one).values()) == pytest.approx(20.0)


@pytest.mark.parametrize("transit", [-3600.0, 3600.0])
def test_a_clients_wrong_clock_does_not_move_its_steps(transit: float) -> None:
    parts = spent(timed(120.0, train=8.0, total=8.0, fold=0.0, transit=transit))
    assert parts["train"] == 8.0
    assert sum(parts.values()) == pytest.approx(20.0)


def test_what_nobody_told_takes_no_time() -> None:
    assert spent(timed(None)) == {}


@pytest.mark.parametrize("outcome", ["failed", "abstained"])
def test_what_a_client_did_before_it_failed_is_not_known(outcome: str) -> None:
    assert spent(timed(143.0, outcome)) == {"unknown": 43.0}


@pytest.mark.parametrize("outcome", ["absent", "discarded"])
def test_a_client_without_an_answer_is_drawn_up_to_the_deadline(outcome: str) -> None:
    assert spent(timed(None, outcome)) == {"missed": 60.0}


def test_the_slowest_rows_are_in_the_order_in_which_the_round_stopped_waiting_for_them() -> None:
    one = columns(1, a="accepted", b="accepted", c="absent", d="accepted")
    one.at[:] = [130.0, 110.0, np.nan, 120.0]
    rows = waterfall.slowest_rows(TimedRound(one, 100.0, 160.0, 161.0), 3)
    assert [one.clients[index] for index in rows] == ["d", "a", "c"]


def sentence(committed_at: float | None, ends: dict[str, float | None]) -> str:
    one = columns(1, **{name: "absent" if at is None else "accepted" for name, at in ends.items()})
    one.at[:] = [np.nan if at is None else at for at in ends.values()]
    timed_round = TimedRound(one, 100.0, 160.0, committed_at)
    plot: Any = waterfall.waterfall(timed_round, np.arange(len(ends)))
    return str(plot.children[2].children)


def test_the_sentence_names_the_client_that_the_round_waited_for() -> None:
    assert sentence(161.0, {"a": 110.0, "b": 130.0, "c": None}).startswith(
        "It took 61.0 s. c gave no answer by the deadline of 60.0 s. "
        "b was the last to answer, after 30.0 s; half of the clients had answered after 30.0 s."
    )


def test_the_sentence_names_no_half_that_never_answered() -> None:
    caption = sentence(161.0, {"a": 110.0, "b": None, "c": None})
    assert "b and c gave no answer by the deadline" in caption
    assert "a was the last to answer, after 10.0 s." in caption and "half" not in caption


def test_the_sentence_of_a_round_without_any_answer_names_nobody_as_the_last() -> None:
    assert "the last to answer" not in sentence(161.0, {"a": None, "b": None})


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


def test_neither_names_nor_seeds_of_policies_nor_empty_tables_are_compared() -> None:
    one = {"name": "a", "seed": None, "train": {"proximal_mu": 0.1}}
    assert differences([one, {"name": "b", "seed": "m", "train": {}}]) == {"train.proximal_mu": [0.1, None]}


def test_policies_are_compared_field_by_field() -> None:
    one = {"rounds": 3, "strategy": {"name": "fedavg"}, "train": {"epochs": 1}}
    other = {"rounds": 3, "strategy": {"name": "fedadam"}, "train": {}}
    assert differences([one, other]) == {
        "strategy.name": ["fedavg", "fedadam"],
        "train.epochs": [1, None],
    }


@pytest.mark.parametrize(
    ("axis", "largest", "expected"),
    [
        ("round", 7.0, (1.0, "round")),
        ("hours", 90.0, (1.0, "seconds since the start")),
        ("hours", 600.0, (60.0, "minutes since the start")),
        ("hours", 9000.0, (3600.0, "hours since the start")),
        ("bytes", 5_000.0, (1e3, "kB sent to clients and received")),
        ("bytes", 3e9, (1e9, "GB sent to clients and received")),
    ],
)
def test_the_unit_of_an_axis_suits_its_range(axis: str, largest: float, expected: tuple[float, str]) -> None:
    assert curves.scale_of(axis, [0.0, largest]) == expected


def test_an_axis_without_points_has_a_unit() -> None:
    assert curves.scale_of("hours", []) == (1.0, "seconds since the start")


def test_the_time_in_the_queue_is_no_time_of_the_session() -> None:
    session = {"created_at": 100.0, "started_at": 160.0}
    rounds = [{"round": 1, "committed_at": 170.0}, {"round": 2, "committed_at": 190.0}]
    assert curves.positions_of(session, rounds, "hours") == {0: 0.0, 1: 10.0, 2: 30.0}
    assert curves.positions_of({"created_at": 100.0}, rounds, "hours") == {0: 0.0, 1: 70.0, 2: 90.0}


def test_the_bytes_of_rounds_add_up() -> None:
    rounds = [{"round": number, "bytes": {"down": 30, "up": 20}} for number in (1, 2)]
    assert curves.positions_of({}, rounds, "bytes") == {0: 0.0, 1: 50.0, 2: 100.0}
