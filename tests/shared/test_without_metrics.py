"""Which validations have no metrics, and why, from the records of a session."""

from __future__ import annotations

from typing import Any

import pytest

from fedmq.evaluators import NO_VALIDATE
from fedmq.records.sqlite import SqliteRecords
from fedmq.records.without_metrics import (
    not_accepted,
    not_accepted_lines,
    place_in,
    reasons_by_client,
    without_metrics,
    without_metrics_lines,
)
from fedmq_schemas import keys
from fedmq_schemas import records as tables

TRACE = """Traceback (most recent call last):
  File "/site/package/trainer.py", line 12, in validate
    return helper.score(weights)
  File "/site/package/helper.py", line 3, in score
    return np.divide(weights, "a")
  File "/lib/numpy/core.py", line 99, in divide
TypeError: no
--- last lines of output ---
  File "/elsewhere/printed.py", line 1, in printed
"""


@pytest.fixture
def records() -> SqliteRecords:
    return SqliteRecords(":memory:")


def validated(
    records: SqliteRecords,
    client: str,
    reason: str = "",
    *,
    round: int = 1,
    scope: str = "client",
    traceback: str = "",
) -> None:
    """Records a validation; one with a reason has no metrics."""
    row: dict[str, Any] = {"session": "s", "round": round, "model": f"m{round}", "client": client, "scope": scope}
    row |= {"weight": None, "metrics": {} if reason else {"loss": 1.0}, "reason": reason, "at": float(round)}
    records.put(tables.VALIDATIONS, keys.validation_record("s", f"m{round}", client), row)
    event(
        records, keys.validated_event("s", f"m{round}", client), "model.validated", client, round, traceback=traceback
    )


def event(records: SqliteRecords, key: str, name: str, client: str, round: int, **data: Any) -> None:
    row = {"name": name, "session": "s", "round": round, "client": client, "at": float(round), "data": data}
    records.put(tables.EVENTS, key, row)


def lines(records: SqliteRecords) -> list[str]:
    return without_metrics_lines(without_metrics(records, "s"))


def test_a_session_whose_validations_all_have_metrics_needs_no_line(records: SqliteRecords) -> None:
    validated(records, "a")
    assert without_metrics(records, "s") == {"asked": 1, "reasons": []}
    assert lines(records) == []


def test_reasons_that_differ_in_numbers_only_are_one_line_with_their_count(records: SqliteRecords) -> None:
    for number, client in enumerate("abc"):
        validated(records, client, f"validate raised ValueError: {number} rows", round=number)
    validated(records, "a", round=3)
    [line] = lines(records)
    assert line.startswith("3 of 4 validations have no metrics: validate raised ValueError: ")
    assert line.endswith(" rows (a and 2 more)")


def test_the_newest_round_of_a_reason_is_recorded_with_it(records: SqliteRecords) -> None:
    for round in (1, 2):
        validated(records, "a", "validate returned None", round=round)
    [reason] = without_metrics(records, "s")["reasons"]
    assert (reason["round"], reason["count"], reason["clients"]) == (2, 2, ["a"])


def test_the_most_frequent_reason_is_first_and_those_after_the_third_are_counted(records: SqliteRecords) -> None:
    for number, reason in enumerate(["one", "two", "two", "three", "four", "five"]):
        validated(records, f"c{number}", f"validate raised {reason}")
    found = lines(records)
    assert found[0] == "2 of 6 validations have no metrics: validate raised two (c1 and 1 more)"
    assert len(found) == 4 and found[3] == "2 more have none for other reasons"


def test_a_validation_that_was_not_answered_in_time_counts_with_its_reason(records: SqliteRecords) -> None:
    reason = "no answer in 120 s; it was in trainer.py:24 in validate; if trainers are only slow, raise `timeout`"
    validated(records, "a")
    event(records, "1", "validation.absent", "b", 1, reason=reason)
    assert lines(records) == [f"1 of 2 validations have no metrics: absent: {reason} (b)"]


def test_a_validation_that_came_late_counts_once(records: SqliteRecords) -> None:
    validated(records, "a")
    event(records, "1", "validation.absent", "a", 1, reason="no answer in 120 s")
    assert without_metrics(records, "s") == {"asked": 1, "reasons": []}


def test_a_client_whose_trainer_has_no_validate_counts_once(records: SqliteRecords) -> None:
    for round in (0, 3):
        validated(records, "a", NO_VALIDATE, round=round)
        validated(records, "b", round=round)
    found = without_metrics(records, "s")
    assert (found["asked"], found["reasons"][0]["count"], found["reasons"][0]["round"]) == (3, 1, 3)


def test_an_evaluator_without_a_test_set_does_not_count_and_one_that_fails_does(records: SqliteRecords) -> None:
    validated(records, "e", "the package states no test set; return one from test_data", scope="test")
    assert without_metrics(records, "s")["asked"] == 0
    validated(records, "e", "validate raised KeyError: 'x'", scope="test", round=2)
    assert lines(records) == ["1 of 1 validation has no metrics: validate raised KeyError: 'x' (e)"]


def test_the_place_is_the_innermost_one_in_the_trainers_own_folder(records: SqliteRecords) -> None:
    validated(records, "a", "validate raised TypeError: no", traceback=TRACE)
    text = "validate raised TypeError: no; it was in helper.py:3 in score (a)"
    assert lines(records) == [f"1 of 1 validation has no metrics: {text}"]


@pytest.mark.parametrize(
    ("traceback", "place"),
    [
        ("", ""),
        ("no frame at all", ""),
        ("trainer.py:12 in validate\nhelper.py:3 in score", "helper.py:3 in score"),
        (TRACE, "helper.py:3 in score"),
    ],
)
def test_a_place_is_read_from_what_a_site_publishes(traceback: str, place: str) -> None:
    assert place_in(traceback) == place


def test_each_client_has_the_reason_of_its_newest_model(records: SqliteRecords) -> None:
    validated(records, "a", "validate returned None", round=1)
    validated(records, "a", round=2)
    validated(records, "b", "validate raised TypeError: no", round=1, traceback=TRACE)
    validated(records, "c", "validate returned None", round=0)
    assert reasons_by_client(records, "s", 2) == {
        "b": "validation of model 1 has no metrics: validate raised TypeError: no; it was in helper.py:3 in score"
    }


def answered(records: SqliteRecords, round: int, attempt: int = 1, traceback: str = "", **answers: str) -> None:
    """Records an attempt of the round with each client's `outcome: reason`. Attempt 1 makes the round's model."""
    split = {client: answer.partition(": ") for client, answer in answers.items()}
    outcomes = [outcome for outcome, _, _ in split.values()]
    reasons = {client: reason for client, (_, _, reason) in split.items() if reason}
    row = {"session": "s", "round": round, "attempt": attempt}
    counts = {outcome: outcomes.count(outcome) for outcome in outcomes}
    if attempt == 1:
        records.put(tables.ROUNDS, keys.round_record("s", round), row | {"counts": counts})
    ledger = row | {"clients": list(answers), "outcomes": outcomes, "reasons": reasons}
    records.put(tables.PARTICIPATION, keys.attempt_record("s", round, attempt), ledger)
    for client, (outcome, _, reason) in split.items():
        key = f"{round}/{attempt}/{client}"
        event(records, key, f"update.{outcome}", client, round, reason=reason, traceback=traceback)


def answers_lines(records: SqliteRecords) -> list[str]:
    return not_accepted_lines(not_accepted(records, "s"))


def test_rounds_whose_updates_were_all_accepted_need_no_line(records: SqliteRecords) -> None:
    answered(records, 1, a="accepted", b="accepted")
    assert not_accepted(records, "s") == {"asked": 2, "reasons": []}
    assert answers_lines(records) == []


def test_an_update_that_failed_once_has_its_reason_its_place_its_client_and_its_round(records: SqliteRecords) -> None:
    answered(records, 1, traceback=TRACE, a="accepted", b="failed: train raised ValueError: only in round one")
    answered(records, 2, a="accepted", b="accepted")
    text = "train raised ValueError: only in round one; it was in helper.py:3 in score"
    assert answers_lines(records) == [f"1 of 4 updates failed: {text} (b, round 1)"]


def test_outcomes_are_separate_and_reasons_that_differ_in_numbers_are_one(records: SqliteRecords) -> None:
    answered(records, 1, a="absent: no answer in 5 s", b="accepted", c="abstained")
    answered(records, 3, a="absent: no answer in 6 s", b="absent: no answer in 6 s", c="accepted")
    assert answers_lines(records) == [
        "3 of 6 updates were absent: no answer in 6 s (a and 1 more, rounds 1 to 3)",
        "1 of 6 updates abstained (c, round 1)",
    ]


def test_an_attempt_that_made_no_model_does_not_count(records: SqliteRecords) -> None:
    answered(records, 1, a="accepted")
    answered(records, 1, attempt=2, a="failed: train raised KeyError: 'x'")
    assert not_accepted(records, "s") == {"asked": 1, "reasons": []}


def test_reasons_after_the_third_are_counted(records: SqliteRecords) -> None:
    answered(records, 1, a="failed: A", b="failed: B", c="failed: C", d="failed: D", e="failed: E")
    assert answers_lines(records)[3:] == ["2 more were not accepted for other reasons"]
