"""Starts and stops that can't be obeyed: whoever sent them is told why, and sessions that can go on do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bad_input.alliance import POLICY, SEED, Alliance, assert_unharmed
from fedmq import tensors
from fedmq.codec import JSON
from fedmq_schemas import records as tables
from fedmq_schemas import topology

PROPER = POLICY.model_dump(mode="json")

POLICIES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"round": 3}, "unknown key 'round': did you mean 'rounds'?"),
    "an unknown key of a section": ({"strategy": {"nam": "fedavg"}}, "unknown key 'nam': did you mean 'name'?"),
    "a key of the past": ({"validate_models": False}, "unknown key 'validate_models': did you mean 'validation'?"),
    "a validation of no kind": ({"validation": "sometimes"}, "'with_training', 'separate' or 'none'"),
    "a bad weighting": ({"weighting": "capped:0"}, "weighting 'capped:0' is not known: examples, equal, or capped:N"),
    "fewer requested than required": (
        {"clients_required": 3, "clients_requested": 2},
        "clients_requested (2) is below clients_required (3)",
    ),
    "no round": ({"rounds": 0}, "rounds"),
    "a fraction above 1": ({"clients": {"fraction": 1.5}}, "clients.fraction"),
    "a negative timeout": ({"timeout": -1}, "timeout"),
    "a validation of longer than a week": ({"validation_timeout": 1e7}, "validation_timeout"),
    "a wrong type": ({"rounds": "many"}, "rounds"),
    "a policy too large for a message": ({"train": {"x": "y" * 20_000}}, "move large values into the package"),
}


@pytest.mark.parametrize("row", POLICIES)
def test_a_bad_policy_is_refused_with_its_reason_and_no_session_is_made(tmp_path: Path, row: str) -> None:
    changes, words = POLICIES[row]
    alliance = Alliance(tmp_path, on_task=None)
    assert alliance.run({**PROPER, **changes}, "bad") == {}
    told = alliance.events("session.refused", session="bad")
    assert len(told) == 1 and words in told[0]["data"]["reason"]
    assert len(alliance.dead) == 1 and words in alliance.dead[0]
    assert_unharmed(alliance, alliance.run())


def test_a_start_by_hand_in_json_with_nothing_in_it_is_refused_or_started_by_its_own_message_id(tmp_path: Path) -> None:
    """As from RabbitMQ's own page, where nobody writes an envelope."""
    alliance = Alliance(tmp_path, on_task=None)
    for policy in ({"seed": SEED, "rounds": 1}, {"seeds": SEED}):
        body = json.dumps({"kind": "start", "body": {"policy": policy}}).encode()
        alliance.publish("control", topology.control_key("start"), body, content_type=JSON)
    alliance.settle(300.0)
    assert [session["state"] for session in alliance.records.find(tables.SESSIONS)] == ["finished"]
    assert "did you mean 'seed'?" in alliance.reasons("session.refused")[0]


SEEDS: dict[str, tuple[str, str]] = {
    "an unknown seed": ("nobody", "there is no model 'nobody'"),
    "a seed that is no model": ("notes.txt", "'notes.txt' in bucket models is no model"),
    "a seed that is cut short": ("cut", "'cut' in bucket models is no model (safetensors): the blob is truncated"),
    "a seed outside of the store": ("../../etc/passwd", "is not a blob key"),
}


@pytest.mark.parametrize("row", SEEDS)
def test_a_bad_seed_fails_the_session_before_its_first_round(tmp_path: Path, row: str) -> None:
    seed, words = SEEDS[row]
    alliance = Alliance(tmp_path, on_task=None)
    alliance.blobs.put("models/notes.txt", b"these are only notes, and no model at all")
    alliance.blobs.put("models/cut", tensors.encode({"w": np.ones(9, np.float32)}, {})[:-3])
    session = alliance.run(POLICY.model_copy(update={"seed": seed}), "bad")
    assert session["state"] == "failed" and words in session["reason"]
    assert alliance.reasons("session.failed", session="bad") == [session["reason"]]
    assert alliance.events("round.planned") == []
    assert_unharmed(alliance, alliance.run())


STRATEGIES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown strategy": ({"name": "fedadm"}, "there is no server optimizer 'fedadm'; did you mean 'fedadam'?"),
    "an unknown parameter": (
        {"name": "fedavg", "parameters": {"server_learning_rat": 1.0}},
        "did you mean 'server_learning_rate'?",
    ),
    "a parameter out of bounds": (
        {"name": "fedadam", "parameters": {"server_learning_rate": 0.0}},
        "must be above 0",
    ),
}


@pytest.mark.parametrize("row", STRATEGIES)
def test_a_bad_strategy_fails_the_session_before_its_first_round(tmp_path: Path, row: str) -> None:
    strategy, words = STRATEGIES[row]
    alliance = Alliance(tmp_path, on_task=None)
    session = alliance.run({**PROPER, "strategy": strategy}, "bad")
    assert session["state"] == "failed" and words in session["reason"]
    assert alliance.events("round.planned") == []
    assert_unharmed(alliance, alliance.run())


def test_a_session_without_enough_clients_says_until_when_it_waits_and_ends_then(tmp_path: Path) -> None:
    alliance = Alliance(tmp_path, on_task=None)
    began = alliance.scheduler.wall()
    alliance.start(POLICY.model_copy(update={"clients_required": 3, "wait": 600}))
    alliance.settle(1.0)
    waiting = alliance.records.find(tables.SESSIONS)[0]
    assert waiting["state"] == "waiting" and waiting["waiting"] == "waiting for clients, 2 of 3"
    assert waiting["waiting_until"] == pytest.approx(began + 600, abs=1)
    told = alliance.events("session.waiting")
    assert [event["data"]["waiting_until"] for event in told] == [waiting["waiting_until"]]
    session = alliance.finish()
    assert session["state"] == "failed" and session["reason"] == "gave up waiting for clients, 2 of 3 after 600 s"
    assert session["waiting_until"] is None
    assert session["ended_at"] == pytest.approx(waiting["waiting_until"], abs=1)


def test_a_stop_of_an_unknown_session_is_answered_and_changes_nothing(tmp_path: Path) -> None:
    alliance = Alliance(tmp_path, on_task=None)
    alliance.start()
    stop = alliance.pack("stop", {"session": "nobody"}, message_id="stop1")
    alliance.publish("control", topology.control_key("stop"), stop)
    assert_unharmed(alliance, alliance.finish())
    told = alliance.events("message.refused")
    assert [event["cause"] for event in told] == ["stop1"]
    assert "there is no open session 'nobody' to stop" in told[0]["data"]["reason"]


def test_a_stop_right_behind_its_start_is_obeyed(tmp_path: Path) -> None:
    alliance = Alliance(tmp_path, on_task=None)
    alliance.start(session="short")
    alliance.publish("control", topology.control_key("stop"), alliance.pack("stop", {"session": "short"}))
    assert alliance.finish("short")["state"] == "stopped"
    assert_unharmed(alliance, alliance.run())


def test_a_stop_that_says_nothing_sensible_is_a_dead_letter(tmp_path: Path) -> None:
    alliance = Alliance(tmp_path, on_task=None)
    body = alliance.pack("stop", {"session": "no such name!", "when": "maybe"})
    alliance.publish("control", topology.control_key("stop"), body)
    assert_unharmed(alliance, alliance.run())
    assert len(alliance.dead) == 1 and "stop message: session" in alliance.dead[0]


def test_a_start_told_twice_starts_once(tmp_path: Path) -> None:
    alliance = Alliance(tmp_path, on_task=None)
    alliance.start()
    alliance.start()
    assert_unharmed(alliance, alliance.finish())
    alliance.start()
    alliance.settle(60.0)
    assert len(alliance.records.find(tables.SESSIONS)) == 1
    assert len(alliance.events("round.committed")) == 2
