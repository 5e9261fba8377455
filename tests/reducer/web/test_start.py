"""Starting sessions: `GET /start` and `POST /start`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from .alliance import SEED, await_end, count_sessions


def test_a_plain_get_starts_a_session_with_defaults_and_answers_at_once(api: httpx.Client) -> None:
    answer = api.get("/start")
    assert answer.status_code == 202
    assert answer.headers["location"] == answer.json()["follow"] == f"/sessions/{answer.json()['session']}"
    ended = await_end(api, answer.json()["session"])
    assert (ended["state"], ended["rounds_committed"]) == ("finished", 5)


def test_a_query_sets_keys_of_the_policy_and_of_its_sections(api: httpx.Client) -> None:
    query = {"rounds": "2", "train.learning_rate": "0.25", "model_id": SEED, "name": "by query"}
    session = api.get("/start", params=query).json()["session"]
    policy = await_end(api, session)["policy"]
    assert (policy["rounds"], policy["train"], policy["name"]) == (2, {"learning_rate": 0.25}, "by query")
    assert policy["seed"] == SEED


def test_a_post_takes_the_policy_from_the_address_as_a_get_does_or_from_its_body_but_not_from_both(
    api: httpx.Client,
) -> None:
    session = api.post("/start", params={"rounds": "1", "model_id": SEED}).json()["session"]
    policy = await_end(api, session)["policy"]
    assert (policy["rounds"], policy["seed"]) == (1, SEED)
    refused = api.post("/start", params={"rounds": "1"}, json={"rounds": 2})
    assert (refused.status_code, "leave it out of the address" in refused.text) == (422, True)


def test_the_same_id_sent_twice_starts_once(api: httpx.Client) -> None:
    for _ in range(2):
        assert api.post("/start", json={"rounds": 1}, params={"id": "once"}).json()["session"] == "once"
    assert await_end(api, "once")["rounds_committed"] == 1
    sessions = api.get("/sessions", params={"limit": 1000}).json()["items"]
    assert [each["session"] for each in sessions].count("once") == 1


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"rounds": 0}, "rounds: must be greater than or equal to 1"),
        ({"round": 3}, "unknown key 'round': did you mean 'rounds'?"),
        ({"strategy": {"name": "fedadm"}}, "fedadam"),
        ({"clients_required": 3, "clients_requested": 2}, "no round could reach its minimum"),
        ([], "the body must be a JSON object"),
        ({"package": "x"}, "package: 'x' is no package's sha256: that is 64 hexadecimal digits"),
    ],
)
def test_a_wrong_policy_is_answered_with_what_to_change(api: httpx.Client, body: Any, complaint: str) -> None:
    before = count_sessions(api)
    answer = api.post("/start", json=body)
    assert answer.status_code == 422
    assert complaint in answer.json()["error"]
    assert count_sessions(api) == before


def test_a_query_with_wrong_keys_names_them_all(api: httpx.Client) -> None:
    answer = api.get("/start", params={"rounds": "0", "timeout": "soon"})
    assert answer.status_code == 422
    assert "rounds: must be" in answer.json()["error"] and "timeout: must be" in answer.json()["error"]


def test_an_unknown_seed_is_not_found(api: httpx.Client) -> None:
    answer = api.post("/start", json={"seed": "no-such"})
    assert answer.status_code == 404
    assert "there is no model 'no-such'" in answer.json()["error"]
