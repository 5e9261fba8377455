"""Addresses, numbers in words, and tables as files."""

from __future__ import annotations

import csv
import io
import math

import pytest

from fedmq_dashboard import words
from fedmq_dashboard.query import Query
from fedmq_dashboard.routes import Cell, to_csv, to_json


def test_an_address_says_what_is_chosen() -> None:
    query = Query.parse("?session=s1&columns=loss,accuracy&page=3&metric=")
    assert (query.get("session"), query.names("columns"), query.number("page")) == ("s1", ["loss", "accuracy"], 3)
    assert query.get("metric") is None


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "99999999999999999999", "٣x"])
def test_a_number_that_is_none_is_the_default(text: str) -> None:
    assert Query({"page": text}).number("page", 7) == 7


def test_changes_keep_what_else_is_chosen() -> None:
    query = Query.parse("?session=a b&page=2")
    assert Query.parse(query.search(page=None, sort="loss")).values == {"session": "a b", "sort": "loss"}
    assert Query().search() == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (12.3456, "12.35"),
        (1234.5, "1,234"),
        (5, "5"),
        (5.0, "5"),
        (1e-9, "1e-09"),
        (float("nan"), "nan"),
        (None, "–"),
        (True, "–"),
        ("x", "–"),
        (0.0, "0"),
        (123456789, "123,456,789"),
    ],
)
def test_numbers_have_four_digits(value: object, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "12 ms"), (5.0, "5.0 s"), (600.0, "10 min"), (10_000.0, "2.8 h"), (None, "–"), (math.nan, "–")],
)
def test_seconds_have_a_fitting_unit(value: float | None, text: str) -> None:
    assert words.seconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(10, "10 bytes"), (4_800_000, "4.8 MB"), (2e15, "2,000 TB"), (None, "–")])
def test_sizes_have_a_fitting_unit(value: float | None, text: str) -> None:
    assert words.size(value) == text


def test_the_best_known_metrics_come_first_and_tests_last() -> None:
    assert words.metric_names([{"loss": 1, "zeal": 1}, {"test/accuracy": 1, "accuracy": 1}]) == [
        "accuracy",
        "loss",
        "zeal",
        "test/accuracy",
    ]


def test_losses_and_errors_are_better_when_less() -> None:
    assert words.less_is_better("val_loss") and words.less_is_better("MSE")
    assert not words.less_is_better("accuracy")
    assert words.less_is_better("zeal"), "as select.mode is min for a metric whose name does not say it"


ROWS: list[dict[str, Cell]] = [
    {"model": "m,1", "round": 1, "loss": 0.5},
    {"model": 'm"2', "round": 2, "loss": None},
]


def test_csv_reads_back() -> None:
    assert list(csv.DictReader(io.StringIO(to_csv(ROWS)))) == [
        {"model": "m,1", "round": "1", "loss": "0.5"},
        {"model": 'm"2', "round": "2", "loss": ""},
    ]


def test_no_rows_make_an_empty_file() -> None:
    assert (to_csv([]), to_json([])) == ("", "[]")


def test_a_text_that_looks_like_a_formula_is_defused() -> None:
    assert to_csv([{"=1+1": "@sum", "n": -5}]) == "'=1+1,n\n'@sum,-5\n"
