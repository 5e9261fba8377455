"""When a session stops early: a decision that follows from the recorded score alone."""

import pytest

from fedmq_reducer.selection import metric_of, next_score, reason_to_stop
from fedmq_schemas.policy import EarlyStopping, ModelSelection
from fedmq_schemas.records import Score


def _scores(values: list[float | None], metric: str = "test/accuracy", min_delta: float = 0.0) -> list[Score]:
    score: Score | None = None
    scores = []
    for number, value in enumerate(values, 1):
        summary = {} if value is None else {metric: {"mean": value}}
        score = next_score(score, number, summary, ModelSelection(), min_delta)
        scores.append(score)
    return scores


def _stops_after(scores: list[Score], stop: EarlyStopping) -> int | None:
    return next((score.round for score in scores if reason_to_stop(score, stop)), None)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["test/duration", "f1"], "f1"),
        (["test/f1", "f1", "accuracy"], "accuracy"),
        (["test/f1", "auc"], "test/f1"),
        (["test/duration", "zeal"], "test/duration"),
        ([], ""),
    ],
)
def test_a_metric_whose_name_says_that_it_grows_or_falls_counts_before_others(names: list[str], expected: str) -> None:
    assert metric_of(names, None) == expected


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4], 2, 0.0, None),
        ([0.1, 0.3, 0.2, 0.2], 2, 0.0, 4),
        ([0.5, 0.5, 0.5], 2, 0.0, 3),
        ([0.5, 0.505, 0.509, 0.6], 2, 0.01, 3),
        ([0.5, 0.505, 0.511], 2, 0.01, None),
        ([None, None, None], 2, 0.0, 2),
        ([0.5, None, 0.6, None, None], 2, 0.0, 5),
    ],
)
def test_patience_counts_rounds_since_the_last_better_model(
    values: list[float | None], patience: int, min_delta: float, expected: int | None
) -> None:
    assert (
        _stops_after(_scores(values, min_delta=min_delta), EarlyStopping(patience=patience, min_delta=min_delta))
        == expected
    )


@pytest.mark.parametrize(
    ("metric", "values", "target", "expected"),
    [("val_acc", [0.8, 0.94, 0.95], 0.95, 3), ("loss", [0.5, 0.2, 0.1], 0.2, 2), ("loss", [0.5, 0.4], 0.1, None)],
)
def test_a_target_is_reached_from_the_side_of_its_metric(
    metric: str, values: list[float | None], target: float, expected: int | None
) -> None:
    assert _stops_after(_scores(values, metric), EarlyStopping(target=target)) == expected


def test_the_metric_stays_what_it_was_when_it_was_first_seen() -> None:
    first = next_score(None, 1, {"loss": {"mean": 1.0}}, ModelSelection(), 0.0)
    second = next_score(first, 2, {"loss": {"mean": 0.5}, "test/accuracy": {"mean": 0.1}}, ModelSelection(), 0.0)
    assert (second.metric, second.mode, second.best, second.best_round) == ("loss", "min", 0.5, 2)


def test_reasons_name_metric_value_and_round() -> None:
    assert reason_to_stop(_scores([0.5, 0.4])[-1], EarlyStopping(patience=1)) == (
        "test/accuracy has not become better than 0.5 (round 1) in 1 round"
    )
    assert (
        reason_to_stop(_scores([None])[-1], EarlyStopping(patience=1)) == "nobody gave a value of any metric in 1 round"
    )


def test_the_mode_stays_what_it_was_when_the_metric_was_first_seen() -> None:
    first = Score(round=1, value=0.5, metric="acc", mode="min", best=0.5, best_round=1)
    assert next_score(first, 2, {"acc": {"mean": 0.4}}, ModelSelection(), 0.0).best_round == 2
