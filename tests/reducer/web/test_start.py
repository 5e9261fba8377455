"""Starting sessions: `GET /start` and `POST /start`."""

from __future__ import annotations

import httpx

from .alliance import SEED, await_end


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


def test_a_post_takes_the_policy_from_the_address_as_a_get_does(api: httpx.Client) -> None:
    session = api.post("/start", params={"rounds": "1", "model_id": SEED}).json()["session"]
    policy = await_end(api, session)["policy"]
    assert (policy["rounds"], policy["seed"]) == (1, SEED)


def test_the_same_id_sent_twice_starts_once(api: httpx.Client) -> None:
    for _ in range(2):
        assert api.post("/start", json={"rounds": 1}, params={"id": "once"}).json()["session"] == "once"
    assert await_end(api, "once")["rounds_committed"] == 1
    sessions = api.get("/sessions", params={"limit": 1000}).json()["items"]
    assert [each["session"] for each in sessions].count("once") == 1
