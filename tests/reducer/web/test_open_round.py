"""What is known of a round that is open: its deadline, who has answered with what, and who has not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedmq.records.sqlite import SqliteRecords
from fedmq_reducer.web.api.open_round import (
    absences,
    answers_so_far,
    newest_attempt,
    not_validated,
    open_round,
    open_validation,
)
from fedmq_schemas import keys
from fedmq_schemas import records as tables

from .test_stalls_shown import Api

SESSION: dict[str, Any] = {"session": "s", "state": "running", "waiting": "", "policy": {"timeout": 60.0}}


class Alliance:
    """Records of the session `s` and its clients a, b and c."""

    def __init__(self) -> None:
        self.records = SqliteRecords(":memory:")
        self._events = 0

    def attempt(self, round: int, attempt: int, at: float) -> None:
        plans = [
            {"part": 0, "combiner": "k1", "clients": ["a", "b"], "voided": False},
            {"part": 1, "combiner": "k2", "clients": ["c"], "voided": True},
            {"part": 2, "combiner": "k1", "clients": ["c"], "voided": False},
        ]
        document = {"session": "s", "round": round, "attempt": attempt, "plans": plans, "created_at": at}
        self.records.put(tables.ATTEMPTS, keys.attempt_record("s", round, attempt), document)

    def event(self, at: float, outcome: str, client: str, round: int = 1, **data: Any) -> None:
        self._events += 1
        document = {"name": f"update.{outcome}", "session": "s", "round": round, "client": client, "at": at}
        self.records.put(tables.EVENTS, f"e{self._events}", document | {"data": data})

    def open_round(self) -> dict[str, Any]:
        found = open_round(self.records, SESSION)
        assert found is not None
        return found

    def outcomes(self) -> dict[str, Any]:
        return {client["client"]: client["outcome"] for client in self.open_round()["clients"]}


@pytest.fixture
def alliance() -> Alliance:
    return Alliance()


def test_an_open_round_lists_who_has_not_answered_and_who_has_with_what(alliance: Alliance) -> None:
    alliance.attempt(1, 1, at=100.0)
    alliance.event(110.0, "failed", "a", reason="ValueError: no")
    alliance.event(112.0, "accepted", "c")
    assert alliance.open_round() == {
        "round": 1,
        "attempt": 1,
        "since": 100.0,
        "deadline": 160.0,
        "clients": [
            {"client": "b", "combiner": "k1", "outcome": None, "reason": "", "at": None},
            {"client": "a", "combiner": "k1", "outcome": "failed", "reason": "ValueError: no", "at": 110.0},
            {"client": "c", "combiner": "k1", "outcome": "accepted", "reason": "", "at": 112.0},
        ],
    }


def test_answers_to_an_earlier_attempt_do_not_count_even_if_a_clock_is_ahead(alliance: Alliance) -> None:
    alliance.attempt(1, 1, at=100.0)
    alliance.event(110.0, "accepted", "a")
    alliance.event(162.0, "absent", "b")
    alliance.attempt(1, 2, at=161.0)
    assert alliance.open_round()["attempt"] == 2
    assert alliance.outcomes() == {"a": None, "b": None, "c": None}
    alliance.event(221.0, "absent", "b")
    assert alliance.outcomes() == {"a": None, "b": "absent", "c": None}


def test_a_discarded_update_is_no_answer(alliance: Alliance) -> None:
    alliance.attempt(1, 1, at=100.0)
    alliance.event(101.0, "discarded", "a", reason="superseded")
    assert alliance.outcomes()["a"] is None


def test_no_round_is_open_before_the_first_draw_after_a_commit_and_while_the_session_waits(alliance: Alliance) -> None:
    assert open_round(alliance.records, SESSION) is None
    alliance.attempt(1, 1, at=100.0)
    assert open_round(alliance.records, {**SESSION, "state": "waiting"}) is None
    assert open_round(alliance.records, {**SESSION, "state": "failed"}) is None
    alliance.records.put(tables.ROUNDS, keys.round_record("s", 1), {"session": "s", "round": 1})
    assert open_round(alliance.records, SESSION) is None


def test_a_failed_session_has_each_clients_reason_although_no_round_is_committed(alliance: Alliance) -> None:
    alliance.attempt(1, 3, at=100.0)
    for client in ("a", "b"):
        alliance.event(101.0, "failed", client, reason="train raised KeyError: 'x'")
    attempt = newest_attempt(alliance.records, "s")
    assert attempt is not None
    answers = answers_so_far(alliance.records, {**SESSION, "state": "failed"}, attempt)
    assert answers["b"]["reason"] == "train raised KeyError: 'x'"
    assert "c" not in answers


def test_once_the_attempt_is_aggregated_its_ledger_counts(alliance: Alliance) -> None:
    alliance.attempt(1, 1, at=100.0)
    alliance.event(101.0, "accepted", "a")
    columns = {"clients": ["a"], "outcomes": ["rejected"], "at": [101.0], "reasons": {"a": "NaN in w"}}
    alliance.records.put(tables.PARTICIPATION, keys.attempt_record("s", 1, 1), columns)
    attempt = newest_attempt(alliance.records, "s")
    assert attempt is not None
    answers = answers_so_far(alliance.records, SESSION, attempt)
    assert answers == {"a": {"outcome": "rejected", "reason": "NaN in w", "at": 101.0}}


# -- the validation of a model ------------------------------------------------------------------------------------------

VALIDATING = {**SESSION, "state": "validating", "policy": {"timeout": 60.0, "validation_timeout": 30.0}}


def _client(name: str, *tasks: str, state: str = "present") -> dict[str, Any]:
    return {"client": name, "combiner": "k1", "state": state, "tasks": tasks, "labels": {}, "package": None}


def _window(number: int, *requests: tuple[str, float, str], absent: tuple[str, ...] = ()) -> dict[str, Any]:
    """The record of a model's window. `requests`: combiner, time and clients of each."""
    listed = [{"combiner": combiner, "clients": clients.split(), "at": at} for combiner, at, clients in requests]
    document = {"session": "s", "round": number, "model": f"m{number}", "requests": listed}
    return {**document, "closes_at": requests[-1][1] + 30.0, "absent": absent}


@pytest.fixture
def validating(alliance: Alliance) -> Alliance:
    """Round 1 is committed. a, b and e were requested to validate its model, then b once more by another combiner. e was
    killed since; f is present and could validate it too, but was not requested."""
    records = alliance.records
    alliance.attempt(1, 1, at=100.0)
    clients = [_client(name, "train", "validate") for name in ("a", "b", "f")]
    for client in [*clients, _client("e", "validate", state="away")]:
        records.put(tables.CLIENTS, client["client"], client)
    model = {"key": "models/m1", "size": 1, "sha256": "0" * 64}
    made = {"session": "s", "round": 1, "model": model, "committed_at": 109.0}
    records.put(tables.ROUNDS, keys.round_record("s", 1), made)
    window = _window(1, ("k1", 110.0, "a b"), ("k1", 112.0, "e"), ("k2", 115.0, "b"))
    records.put(tables.WINDOWS, keys.round_record("s", 1), window)
    answer = {"session": "s", "model": "m1", "client": "a", "reason": "", "at": 111.0}
    records.put(tables.VALIDATIONS, keys.validation_record("s", "m1", "a"), answer)
    return alliance


@pytest.mark.parametrize("state", ["validating", "running"])
def test_an_open_validation_lists_who_was_requested_since_when_and_has_not_answered(
    validating: Alliance, state: str
) -> None:
    """Running: its score decides whether another round follows."""
    assert open_validation(validating.records, {**VALIDATING, "state": state}) == {
        "round": 1,
        "since": 110.0,
        "deadline": 145.0,
        "clients": [
            {"client": "b", "combiner": "k2", "since": 110.0, "outcome": None, "reason": "", "at": None},
            {"client": "e", "combiner": "k1", "since": 112.0, "outcome": None, "reason": "", "at": None},
            {"client": "a", "combiner": "k1", "since": 110.0, "outcome": "validated", "reason": "", "at": 111.0},
        ],
    }


@pytest.mark.parametrize("state", ["queued", "waiting", "finished", "failed", "stopped"])
def test_no_validation_is_open_in_other_states(validating: Alliance, state: str) -> None:
    assert open_validation(validating.records, {**VALIDATING, "state": state}) is None


def test_no_validation_is_awaited_while_a_round_is_open(validating: Alliance) -> None:
    validating.attempt(2, 1, at=120.0)
    assert open_validation(validating.records, SESSION) is None


def test_no_validation_is_awaited_between_rounds_once_the_absences_are_reported(validating: Alliance) -> None:
    window = _window(1, ("k1", 110.0, "a b"), absent=("b",))
    validating.records.put(tables.WINDOWS, keys.round_record("s", 1), window)
    assert open_validation(validating.records, SESSION) is None
    found = open_validation(validating.records, VALIDATING)
    assert found is not None
    assert [(each["client"], each["outcome"]) for each in found["clients"]] == [("a", "validated"), ("b", "absent")]


def test_of_the_last_two_models_the_one_that_lacks_an_answer_is_awaited(validating: Alliance) -> None:
    validating.records.put(tables.WINDOWS, keys.round_record("s", 2), _window(2, ("k1", 130.0, "a")))
    answer = {"session": "s", "model": "m2", "client": "a", "reason": "", "at": 131.0}
    for found, answered in ((2, False), (1, True)):
        if answered:
            validating.records.put(tables.VALIDATIONS, keys.validation_record("s", "m2", "a"), answer)
        is_open = open_validation(validating.records, VALIDATING)
        assert is_open is not None and is_open["round"] == found


def test_a_session_of_an_earlier_version_has_no_record_of_whom_it_has_requested(validating: Alliance) -> None:
    validating.records.delete(tables.WINDOWS, {"session": "s"})
    assert open_validation(validating.records, VALIDATING) is None
    assert not_validated(validating.records, VALIDATING, 1) == {}


def test_who_had_not_validated_when_a_session_was_stopped_is_listed(validating: Alliance) -> None:
    words = "validation of model 1: asked, and had not answered when the session ended (stopped)"
    assert not_validated(validating.records, {**VALIDATING, "state": "stopped"}, 1) == {"b": words, "e": words}


def test_each_client_that_has_not_validated_the_last_model_is_listed_with_that(tmp_path: Path) -> None:
    api = Api(tmp_path)
    for client in (_client("a", "train", "validate"), _client("e", "validate")):
        api.records.put(tables.CLIENTS, client["client"], client)
    api.records.put(tables.SESSIONS, "s", {**VALIDATING, "state": "finished"})
    plans = [{"part": 0, "combiner": "k1", "clients": ["a"], "voided": False}]
    attempt = {"session": "s", "round": 2, "attempt": 1, "plans": plans, "created_at": 100.0}
    api.records.put(tables.ATTEMPTS, keys.attempt_record("s", 2, 1), attempt)
    for number, name, reason in ((1, "a", "of an older model"), (2, "a", "no answer in 30 s"), (2, "e", "no answer")):
        event = {"name": "validation.absent", "session": "s", "round": number, "client": name, "at": 101.0}
        api.records.put(tables.EVENTS, f"{name}{number}", event | {"data": {"reason": reason}})
    items = api.get("/sessions/s/clients")[1]["items"]
    assert {item["client"]: item["why"] for item in items} == {
        "a": "round 2, attempt 1: asked, and had not answered when the session ended (finished); validation of model 2: "
        "absent: no answer in 30 s",
        "e": "it validates only; validation of model 2: absent: no answer",
    }


def test_a_session_shows_whom_its_last_validation_awaits_and_so_do_its_clients(
    validating: Alliance, tmp_path: Path
) -> None:
    api = Api(tmp_path, validating.records)
    api.records.put(tables.SESSIONS, "s", {**VALIDATING, "seed": None})
    assert api.get("/sessions/s")[1]["open_validation"]["deadline"] == 145.0
    whys = {item["client"]: item["why"] for item in api.get("/sessions/s/clients")[1]["items"]}
    assert whys["e"].endswith("; validation of model 1: asked, and not yet answered")
    assert "validation" not in whys["f"]
    assert whys["a"] == "round 1, attempt 1: asked, and not yet answered"


def test_a_client_of_the_open_round_that_is_away_has_the_reason(alliance: Alliance) -> None:
    alliance.attempt(1, 1, at=10.0)
    alliance.event(20.0, "accepted", "b")
    for client in ("a", "b"):
        gone = {"client": client, "combiner": "k1", "state": "away", "last_seen": 60.0}
        alliance.records.put(tables.CLIENTS, client, gone)
    alliance.records.put(tables.COMBINERS, "k1", {"combiner": "k1", "state": "present"})
    reasons = {client["client"]: client["reason"] for client in alliance.open_round()["clients"]}
    assert reasons == {
        "a": "its combiner, k1, receives no messages from it, the last at 00:01:00 UTC",
        "b": "",
        "c": "",
    }


def test_of_several_refusals_of_a_client_the_newest_is_its_reason(alliance: Alliance) -> None:
    alliance.records.put(tables.CLIENTS, "a", {"client": "a", "combiner": "k1", "state": "away", "last_seen": 5.0})
    for at, reason in ((10.0, "old"), (20.0, "new")):
        event = {"name": "client.refused", "session": None, "client": "a", "at": at, "data": {"reason": reason}}
        alliance.records.put(tables.EVENTS, f"refused-{at}", event)
    assert absences(alliance.records) == {"a": "it was refused: new"}
