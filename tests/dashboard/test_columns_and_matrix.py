"""Participation as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedmq_dashboard.charts import participation
from fedmq_dashboard.columns import Columns, columns_of, columns_of_events, with_late
from fedmq_dashboard.matrix import NOT_ASKED, Matrix, last_troubles, matrix_of, nanmedian
from fedmq_schemas.records import OUTCOMES, Participation

NAN = float("nan")


def columns(number: int, **outcomes: str) -> Columns:
    """Clients and their outcomes; the accepted ones have norm 1 and weight 10."""
    accepted = [outcome == "accepted" for outcome in outcomes.values()]
    document = Participation(
        session="s",
        round=number,
        attempt=1,
        clients=tuple(outcomes),
        outcomes=tuple(outcomes.values()),
        weights=tuple(10 if one else 0 for one in accepted),
        norms=tuple(1.0 if one else None for one in accepted),
        at=tuple(100.0 for _ in accepted),
        seconds={"total": tuple(5.0 if one else None for one in accepted), "transit": tuple(0.1 for _ in accepted)},
        reasons={name: "why" for name, outcome in outcomes.items() if outcome != "accepted"},
    )
    return columns_of(document.model_dump())


def test_what_nobody_told_is_nan() -> None:
    found = columns(1, a="accepted", b="absent")
    assert np.array_equal(found.norms, [1.0, NAN], equal_nan=True)
    assert np.array_equal(found.step("total"), [5.0, NAN], equal_nan=True)
    assert np.isnan(found.step("upload")).all()


def test_of_the_events_of_an_open_attempt_the_first_outcome_counts() -> None:
    def event(name: str, client: str, number: int = 2, **data: Any) -> dict[str, Any]:
        return {"name": name, "client": client, "round": number, "at": 7.0, "data": data}

    events = [
        event("update.accepted", "b", weight=3, norm=0.5, seconds={"train": 1.0}),
        event("update.discarded", "b", reason="a duplicate"),
        event("update.failed", "a", reason="raised"),
        event("update.accepted", "c", number=1),
        event("model.validated", "c"),
    ]
    found = columns_of_events("s", 2, 1, events)
    assert found.clients == ("a", "b")
    assert [OUTCOMES[code] for code in found.outcomes] == ["failed", "accepted"]
    assert found.reasons == {"a": "raised"}
    assert np.array_equal(found.step("train"), [NAN, 1.0], equal_nan=True)


def test_a_client_that_was_not_drawn_is_not_asked() -> None:
    matrix = matrix_of([columns(1, a="accepted"), columns(2, a="failed", b="accepted")])
    assert matrix.clients == ("a", "b")
    assert matrix.rounds == (1, 2)
    assert matrix.outcomes.tolist() == [[0, OUTCOMES.index("failed")], [NOT_ASKED, 0]]
    assert (matrix.asked().tolist(), matrix.troubles().tolist()) == ([2, 1], [1, 0])
    assert matrix.weights.tolist() == [10.0, 10.0]


def test_a_late_update_turns_absent_into_late_and_nothing_else() -> None:
    late = [(1, "a"), (1, "b"), (9, "a"), (1, "nobody")]
    one, other = with_late([columns(1, a="absent", b="accepted"), columns(2, a="absent")], late)
    assert [OUTCOMES[code] for code in one.outcomes] == ["discarded", "accepted"]
    assert [OUTCOMES[code] for code in other.outcomes] == ["absent"]


def test_an_absent_client_of_an_open_attempt_has_no_time_either() -> None:
    absent = {"name": "update.absent", "client": "a", "round": 2, "at": 7.0, "data": {}}
    assert np.isnan(columns_of_events("s", 2, 1, [absent]).at).all()


def test_the_weight_of_a_rejected_update_is_no_share() -> None:
    one = columns(1, a="accepted", b="rejected")
    one.weights[:] = [10.0, 1000.0]
    assert matrix_of([one]).weights.tolist() == [10.0, 0.0]


def test_the_outcomes_of_one_client_are_counted() -> None:
    matrix = matrix_of([columns(1, a="accepted", b="failed"), columns(2, a="accepted"), columns(3, a="absent")])
    assert matrix.counts("a") == {"accepted": 2, "absent": 1}
    assert matrix.counts("nobody") == {}


def test_norms_are_told_beside_the_rounds_median() -> None:
    one = columns(1, a="accepted", b="accepted", c="accepted")
    one.norms[:] = [1.0, 1.0, 4.0]
    matrix = matrix_of([one])
    assert matrix.relative_norms()[:, 0].tolist() == [0.0, 0.0, 2.0]
    assert [matrix.clients[index] for index in matrix.order("norm")] == ["c", "a", "b"]
    assert [matrix.clients[index] for index in matrix.order("name")] == ["a", "b", "c"]


def with_norms(*norms: float) -> Matrix:
    one = columns(1, **{f"c{number}": "accepted" for number in range(len(norms))})
    one.norms[:] = norms
    return matrix_of([one])


def test_large_norms_come_first_and_small_and_unknown_ones_last() -> None:
    matrix = with_norms(1.0, 0.1, NAN, 2.5, 1.0)
    assert [matrix.clients[index] for index in matrix.order("norm")] == ["c3", "c0", "c4", "c1", "c2"]


def test_a_norm_is_as_odd_as_it_is_far_from_most_clients() -> None:
    narrow = with_norms(*(2.0 ** (number / 10) for number in range(-4, 5)), 8.0)
    wide = with_norms(*(2.0**number for number in range(-4, 5)), 8.0)
    assert narrow.norm_scores()[-1] == pytest.approx(2.95 / (1.4826 * 0.25))
    assert wide.norm_scores()[-1] == pytest.approx(2.5 / (1.4826 * 2.5))


def test_equal_norms_make_no_other_one_infinitely_odd() -> None:
    scores = with_norms(1.0, 1.0, 1.0, 1.0, 1.02).norm_scores()
    assert scores.tolist() == pytest.approx([0.0, 0.0, 0.0, 0.0, np.log2(1.02) / 0.1])
    assert np.isnan(with_norms(NAN, NAN).norm_scores()).all()


@pytest.mark.parametrize(
    ("norms", "caption"),
    [
        ((1.0, 1.0, 1.0, 1.0, 3.0), "Unusually large: c4 (3.0 times)."),
        (
            (1.0, 1.0, 1.0, 1.0, 0.1, 3.0),
            "Unusually large: c5 (3.0 times). Unusually small: c4 (0.1 times).",
        ),
        ((1.0, 1.0, 1.0, 1.1), "None is unusually large; largest: c3 (1.1 times)."),
        (
            (1.0,) * 6 + (9.0, 8.0, 7.0, 6.0),
            "Unusually large: c6 (9.0 times), c7 (8.0 times), c8 (7.0 times) and 1 more.",
        ),
    ],
)
def test_large_norms_are_named_first_and_small_ones_apart(norms: tuple[float, ...], caption: str) -> None:
    matrix = with_norms(*norms)
    plot: Any = participation.norms(matrix, matrix.order("norm"))
    assert str(plot.children[2].children) == f"Each update's norm beside the median of its round. {caption}"


def test_the_most_troubled_come_first() -> None:
    matrix = matrix_of([columns(1, a="accepted", b="failed"), columns(2, a="accepted", b="failed")])
    assert [matrix.clients[index] for index in matrix.order("troubles")] == ["b", "a"]


def test_the_least_transit_is_what_is_known_of_a_clock() -> None:
    one, two = columns(1, a="accepted"), columns(2, a="accepted")
    one.seconds["transit"][:], two.seconds["transit"][:] = 5.0, 3.0
    assert matrix_of([one, two]).transit.tolist() == [3.0]


def test_no_rounds_make_an_empty_matrix() -> None:
    matrix = matrix_of([])
    assert (matrix.clients, matrix.rounds, matrix.outcomes.shape) == ((), (), (0, 0))
    assert matrix.order("troubles").tolist() == []


def test_the_newest_trouble_of_each_client_is_kept() -> None:
    troubles = last_troubles([columns(1, a="failed", b="accepted"), columns(2, a="absent", b="accepted")])
    assert {name: (trouble.round, trouble.outcome, trouble.reason) for name, trouble in troubles.items()} == {
        "a": (2, "absent", "why")
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 3.0, NAN], 2.0), ([NAN, 5.0, NAN], 5.0), ([NAN, NAN, NAN], NAN), ([3.0, 1.0, 2.0], 2.0)],
)
def test_the_median_passes_over_what_is_not_told(values: list[float], expected: float) -> None:
    assert np.array_equal(nanmedian(np.array([values]), axis=1), [expected], equal_nan=True)
