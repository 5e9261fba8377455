"""Starts and stops that can't be obeyed: the sender gets the reason, and sessions that can continue do."""

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
    "a key of the past": ({"validate_models": False}, "unknown key 'validate_models': did you mean 'validation'?"),
    "a policy too large for a message": ({"train": {"x": "y" * 20_000}}, "move large values into the package"),
}


@pytest.mark.parametrize("row", POLICIES)
def test_a_bad_policy_is_refused_with_its_reason_and_no_session_is_made(tmp_path: Path, row: str) -> None:
    changes, words = POLICIES[row]
    alliance = Alliance(tmp_path, on_task=None)
    assert alliance.run({**PROPER, **changes}, "bad") == {}
    reported = alliance.events("session.refused", session="bad")
    assert len(reported) == 1 and words in reported[0]["data"]["reason"]
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


UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown seed": ({"seed": "nobody"}, "there is no model 'nobody'"),
    "a seed that is no model": ({"seed": "notes.txt"}, "'notes.txt' in bucket models is no model"),
    "a seed that is cut short": (
        {"seed": "cut"},
        "'cut' in bucket models is no model (safetensors): the blob is truncated",
    ),
    "a seed outside of the store": ({"seed": "../../etc/passwd"}, "is not a blob key"),
    "an unknown strategy": ({"strategy": {"name": "fedadm"}}, "no server optimizer 'fedadm'; did you mean 'fedadam'?"),
}


@pytest.mark.parametrize("row", UNUSABLE)
def test_a_seed_or_strategy_that_is_not_there_fails_the_session_before_its_first_round(
    tmp_path: Path, row: str
) -> None:
    changes, words = UNUSABLE[row]
    alliance = Alliance(tmp_path, on_task=None)
    alliance.blobs.put("models/notes.txt", b"these are only notes, and no model at all")
    alliance.blobs.put("models/cut", tensors.encode({"w": np.ones(9, np.float32)}, {})[:-3])
    session = alliance.run({**PROPER, **changes}, "bad")
    assert session["state"] == "failed" and words in session["reason"]
    assert alliance.reasons("session.failed", session="bad") == [session["reason"]]
    assert alliance.events("round.planned") == []
    assert_unharmed(alliance, alliance.run())


def test_a_stop_that_says_nothing_sensible_is_a_dead_letter(tmp_path: Path) -> None:
    alliance = Alliance(tmp_path, on_task=None)
    body = alliance.pack("stop", {"session": "no such name!", "when": "maybe"})
    alliance.publish("control", topology.control_key("stop"), body)
    assert_unharmed(alliance, alliance.run())
    assert len(alliance.dead) == 1 and "stop message: session" in alliance.dead[0]
