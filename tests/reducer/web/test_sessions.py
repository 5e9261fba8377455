"""Sessions, clients and combiners over the web API."""

from __future__ import annotations

from typing import Any

import httpx

from fedmq.policies import from_toml

from .alliance import await_end, wait_until_recorded


def test_a_session_can_be_stopped_and_says_by_whom(api: httpx.Client) -> None:
    session = api.post("/start", json={"rounds": 100_000}).json()["session"]
    wait_until_recorded(api, session)
    assert api.post(f"/sessions/{session}/stop", params={"when": "after_round"}).status_code == 202
    ended = await_end(api, session)
    assert (ended["state"], ended["reason"]) == ("stopped", "stopped after the round")
    again = api.post(f"/sessions/{session}/stop")
    assert (again.status_code, again.json()["state"]) == (202, "stopped")
    assert api.post("/sessions/none/stop").status_code == 404


def test_a_start_whose_policy_can_not_be_recorded_is_refused_at_once(api: httpx.Client) -> None:
    """It was answered by 202, and no session began: no record can hold these."""
    for policy in (
        {"name": "a\0b"},
        {"random_seed": 2**63},
        {"train": {"a\0": 1}},
        {"clients": {"where": {"a\0": ""}}},
    ):
        answer = api.post("/start", json=policy)
        assert answer.status_code == 422, answer.text


def test_a_sessions_policy_is_a_file_that_runs_again_to_the_same_model(
    api: httpx.Client, trained: dict[str, Any]
) -> None:
    policy = from_toml(api.get("/sessions/trained/policy.toml").text)
    assert policy["seed"] == trained["seed"]
    session = api.post("/start", json=policy).json()["session"]
    sha256 = api.get(f"/models/{await_end(api, session)['model']}").json()["ref"]["sha256"]
    assert sha256 == api.get(f"/models/{trained['model']}").json()["ref"]["sha256"]


def test_sessions_come_in_pages_newest_first_and_none_is_lost(api: httpx.Client, trained: dict[str, Any]) -> None:
    await_end(api, api.get("/start?rounds=1").json()["session"])
    whole = [each["session"] for each in api.get("/sessions?limit=1000").json()["items"]]
    paged: list[str] = []
    after = None
    while True:
        page = api.get("/sessions", params={"limit": 1} | ({"after": after} if after else {})).json()
        paged += [each["session"] for each in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert paged == whole
    assert "trained" in whole[1:]


def test_a_round_lists_its_attempts_and_the_outcome_of_each_client(api: httpx.Client, trained: dict[str, Any]) -> None:
    rounds = api.get("/sessions/trained/rounds").json()["items"]
    assert [each["round"] for each in rounds] == [1, 2, 3]
    one = api.get("/sessions/trained/rounds/2").json()
    assert one["participation"][0]["outcomes"] == ["accepted"] * 3
    assert sum(len(plan["clients"]) for plan in one["attempts"][0]["plans"]) == 3
    assert api.get("/sessions/trained/rounds/9").status_code == 404


def test_each_client_is_listed_with_the_reason_why_it_takes_part_or_not(
    api: httpx.Client, trained: dict[str, Any]
) -> None:
    reasons = {each["client"]: each["why"] for each in api.get("/sessions/trained/clients").json()["items"]}
    assert reasons["client1"] == "round 3, attempt 1: accepted"
    assert reasons["evaluator"] == "it validates only"


def test_members_are_listed_and_found(api: httpx.Client) -> None:
    clients = api.get("/clients").json()["items"]
    assert [each["client"] for each in clients] == ["client1", "client2", "client3", "evaluator"]
    page = api.get("/clients?limit=2").json()
    rest = api.get("/clients", params={"after": page["next"]}).json()["items"]
    assert [*page["items"], *rest] == clients
    assert api.get("/clients/client2").json()["combiner"] in ("combiner1", "combiner2")
    assert api.get("/clients/nobody").status_code == 404
    assert len(api.get("/combiners?state=present").json()["items"]) == 2
    assert api.get("/combiners/combiner1").json()["state"] == "present"
