"""Tables as files."""

from __future__ import annotations

import csv
import io
import json

from fedmq_dashboard import export

ROWS: list[dict[str, export.Cell]] = [
    {"model": "m,1", "round": 1, "loss": 0.5},
    {"model": 'm"2', "round": 2, "loss": None},
]


def test_csv_reads_back() -> None:
    assert list(csv.DictReader(io.StringIO(export.to_csv(ROWS)))) == [
        {"model": "m,1", "round": "1", "loss": "0.5"},
        {"model": 'm"2', "round": "2", "loss": ""},
    ]


def test_json_reads_back() -> None:
    assert json.loads(export.to_json(ROWS)) == ROWS


def test_no_rows_make_an_empty_file() -> None:
    assert (export.to_csv([]), export.to_json([])) == ("", "[]")


def test_a_text_that_looks_like_a_formula_is_defused() -> None:
    assert export.to_csv([{"=1+1": "@sum", "n": -5}]) == "'=1+1,n\n'@sum,-5\n"
