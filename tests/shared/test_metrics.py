"""Summaries of the metrics of many clients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest

from fedmq.metrics import grows, is_scalar, summarize

Result = tuple[int | None, Mapping[str, Any]]


def test_a_summary_holds_the_weighted_mean_and_the_spread_of_all_values() -> None:
    results: list[Result] = [(1, {"loss": 4.0}), (3, {"loss": 0.0}), (1, {"loss": 1.0})]
    assert summarize(results) == {
        "loss": {"mean": 1.0, "min": 0.0, "q1": 0.5, "median": 1.0, "q3": 2.5, "max": 4.0, "n": 3.0}
    }


def test_a_single_value_is_all_of_its_summary() -> None:
    assert summarize([(7, {"loss": 2})]) == {
        "loss": {"mean": 2.0, "min": 2.0, "q1": 2.0, "median": 2.0, "q3": 2.0, "max": 2.0, "n": 1.0}
    }


def test_where_one_weight_is_unknown_all_values_of_that_metric_weigh_the_same() -> None:
    results: list[Result] = [(1_000, {"loss": 1.0, "accuracy": 0.5}), (None, {"loss": 3.0})]
    summary = summarize(results)
    assert (summary["loss"]["mean"], summary["loss"]["unweighted"]) == (2.0, 1.0)
    assert "unweighted" not in summary["accuracy"]


def test_metrics_are_sorted_by_name_and_each_counts_who_reported_it() -> None:
    summary = summarize([(1, {"b": 1.0, "a": 1.0}), (1, {"a": 2.0})])
    assert list(summary) == ["a", "b"]
    assert (summary["a"]["n"], summary["b"]["n"]) == (2.0, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "0.5", [0.5], None])
def test_a_value_that_is_no_finite_number_is_left_out(value: object) -> None:
    assert not is_scalar(value)
    assert summarize([(1, {"loss": value})]) == {}
    assert summarize([(1, {"loss": value}), (1, {"loss": 2.0})])["loss"]["n"] == 1.0


def test_a_summary_does_not_depend_on_the_order_of_the_clients() -> None:
    results: list[Result] = [(1, {"loss": 1e16}), (2, {"loss": 1.0}), (3, {"loss": -1e16}), (None, {"accuracy": 0.1})]
    [summary] = {repr(summarize(order)) for order in itertools.permutations(results)}
    assert "loss" in summary


@pytest.mark.parametrize("weight", [1, 2**53 - 1, None])
def test_values_near_the_largest_float_have_their_mean_and_their_quartiles(weight: int | None) -> None:
    """Two of them overflowed, which ended sessions, or kept them from ending."""
    largest = 1.7e308
    summary = summarize([(weight, {"loss": value}) for value in (largest, largest, largest, 0.5 * largest)])["loss"]
    assert summary["mean"] == 0.875 * largest
    assert [summary[name] for name in ("min", "q1", "median", "q3", "max")] == [
        *(0.5 * largest, 0.875 * largest),
        *[largest] * 3,
    ]


def test_large_values_of_both_signs_cancel_exactly() -> None:
    results: list[Result] = [(1, {"loss": 1.7e308}), (1, {"loss": -1.7e308}), (1, {"loss": 3.0}), (1, {"loss": 5e-324})]
    assert summarize(results)["loss"]["mean"] == 0.75
    assert summarize(results)["loss"]["median"] == 1.5


def test_an_integer_beyond_the_range_of_floats_is_left_out() -> None:
    assert not is_scalar(10**400)
    assert summarize([(1, {"loss": 10**400}), (1, {"loss": 2})])["loss"]["n"] == 1.0


def test_values_that_weigh_nothing_in_sum_have_the_mean_of_equal_weights() -> None:
    summary = summarize([(0, {"loss": 1.0}), (0, {"loss": 3.0})])
    assert summary["loss"]["mean"] == 2.0 and "unweighted" not in summary["loss"]


def test_without_results_there_is_no_summary() -> None:
    assert summarize([]) == {}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("accuracy acc val_acc test/acc top5_acc acc@1 balanced_accuracy sparse_categorical_accuracy", True),
        (
            "f1 F1-score f1_macro dice mIoU mAP auroc roc_auc precision@10 r2 score neg_mean_squared_error neg_log_loss",
            True,
        ),
        (
            "loss val_loss logloss rmse MSE mean_absolute_error perplexity brier_score accuracy_loss cross_entropy",
            False,
        ),
        ("mean_io_u binary_io_u cosine_similarity concordance hit_rate success_rate win_rate rocauc nDCG", True),
        ("true_positive_rate true_negatives explained_variance d2_absolute_error_score d2_log_loss_score", True),
        ("valAcc testAccuracy valF1Score f1_neg recall_neg log_likelihood pearsonr correlation", True),
        ("nrmse smape errors losses valLoss accuracy_gap f1_std false_positive_rate negative_log_likelihood", False),
        ("duration n examples lr zeal score_time map_seconds accuracy_ms", None),
    ],
)
def test_a_metrics_name_says_whether_it_grows_with_quality(names: str, expected: bool | None) -> None:
    assert {name: grows(name) for name in names.split()} == dict.fromkeys(names.split(), expected)
