"""The REST API on a real alliance in this process."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fedmq.tensors import tensorblob
from fedmq_schemas import records as tables
from support.servers.served import Served, served

SEED = "seed-5d1e84adb228"
"""What the package's trainer makes first."""
BROWSERS = [
    {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
    {"Accept": "image/avif,image/webp,*/*;q=0.5"},
    {"Accept": "*/*", "Sec-Fetch-Mode": "no-cors"},
    {"Accept": "*/*", "Origin": "http://evil.example"},
]


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("alliance")) as running:
        yield running


@pytest.fixture(scope="module")
def api(alliance: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=alliance.url) as client:
        yield client


def _ended(api: httpx.Client, session: str) -> dict[str, Any]:
    while True:
        answer = api.get(f"/sessions/{session}")
        if answer.status_code == 200 and answer.json()["state"] in tables.ENDED:
            document: dict[str, Any] = answer.json()
            return document
        threading.Event().wait(0.01)


@pytest.fixture(scope="module")
def trained(api: httpx.Client) -> dict[str, Any]:
    """A finished session of three rounds."""
    answer = api.post("/start", json={"rounds": 3, "seed": SEED, "random_seed": 5}, params={"id": "trained"})
    assert answer.status_code == 202
    return _ended(api, "trained")


def _count(api: httpx.Client) -> int:
    return len(api.get("/sessions", params={"limit": 1000}).json()["items"])


# -- start ----------------------------------------------------------------------------------------------------------


def test_a_plain_get_starts_a_session_with_defaults_and_answers_at_once(api: httpx.Client) -> None:
    answer = api.get("/start")
    assert answer.status_code == 202
    assert answer.headers["location"] == answer.json()["follow"] == f"/sessions/{answer.json()['session']}"
    ended = _ended(api, answer.json()["session"])
    assert (ended["state"], ended["rounds_committed"]) == ("finished", 5)


def test_a_query_sets_keys_of_the_policy_and_of_its_sections(api: httpx.Client) -> None:
    query = {"rounds": "2", "train.learning_rate": "0.25", "model_id": SEED, "name": "by query"}
    session = api.get("/start", params=query).json()["session"]
    policy = _ended(api, session)["policy"]
    assert (policy["rounds"], policy["train"], policy["name"]) == (2, {"learning_rate": 0.25}, "by query")
    assert policy["seed"] == SEED


def test_a_post_takes_the_policy_from_the_address_as_a_get_does_or_from_its_body_but_not_from_both(
    api: httpx.Client,
) -> None:
    session = api.post("/start", params={"rounds": "1", "model_id": SEED}).json()["session"]
    policy = _ended(api, session)["policy"]
    assert (policy["rounds"], policy["seed"]) == (1, SEED)
    refused = api.post("/start", params={"rounds": "1"}, json={"rounds": 2})
    assert (refused.status_code, "leave it out of the address" in refused.text) == (422, True)


@pytest.mark.parametrize("headers", BROWSERS)
def test_a_browser_gets_a_page_and_starts_nothing(api: httpx.Client, headers: dict[str, str]) -> None:
    before = _count(api)
    answer = api.get("/start", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert _count(api) == before


def test_the_same_id_sent_twice_starts_once(api: httpx.Client) -> None:
    for _ in range(2):
        assert api.post("/start", json={"rounds": 1}, params={"id": "once"}).json()["session"] == "once"
    assert _ended(api, "once")["rounds_committed"] == 1
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
    before = _count(api)
    answer = api.post("/start", json=body)
    assert answer.status_code == 422
    assert complaint in answer.json()["error"]
    assert _count(api) == before


def test_a_query_with_wrong_keys_names_them_all(api: httpx.Client) -> None:
    answer = api.get("/start", params={"rounds": "0", "timeout": "soon"})
    assert answer.status_code == 422
    assert "rounds: must be" in answer.json()["error"] and "timeout: must be" in answer.json()["error"]


def test_an_unknown_seed_is_not_found(api: httpx.Client) -> None:
    answer = api.post("/start", json={"seed": "no-such"})
    assert answer.status_code == 404
    assert "there is no model 'no-such'" in answer.json()["error"]


def test_a_session_can_be_stopped_and_says_by_whom(api: httpx.Client) -> None:
    session = api.post("/start", json={"rounds": 100_000}).json()["session"]
    while api.get(f"/sessions/{session}").status_code == 404:
        threading.Event().wait(0.01)
    assert api.post(f"/sessions/{session}/stop", params={"when": "after_round"}).status_code == 202
    ended = _ended(api, session)
    assert (ended["state"], ended["reason"]) == ("stopped", "stopped after the round")
    again = api.post(f"/sessions/{session}/stop")
    assert (again.status_code, again.json()["state"]) == (202, "stopped")
    assert api.post("/sessions/none/stop").status_code == 404


# -- what is recorded -----------------------------------------------------------------------------------------------


def test_a_session_tells_its_policy_as_a_file_that_runs_again_to_the_same_model(
    api: httpx.Client, trained: dict[str, Any]
) -> None:
    from fedmq.policies import from_toml

    policy = from_toml(api.get("/sessions/trained/policy.toml").text)
    assert policy["seed"] == trained["seed"]
    session = api.post("/start", json=policy).json()["session"]
    sha256 = api.get(f"/models/{_ended(api, session)['model']}").json()["ref"]["sha256"]
    assert sha256 == api.get(f"/models/{trained['model']}").json()["ref"]["sha256"]


def test_sessions_come_in_pages_newest_first_and_none_is_lost(api: httpx.Client, trained: dict[str, Any]) -> None:
    _ended(api, api.get("/start?rounds=1").json()["session"])
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


def test_rounds_tell_attempts_and_what_became_of_each_client(api: httpx.Client, trained: dict[str, Any]) -> None:
    rounds = api.get("/sessions/trained/rounds").json()["items"]
    assert [each["round"] for each in rounds] == [1, 2, 3]
    one = api.get("/sessions/trained/rounds/2").json()
    assert one["participation"][0]["outcomes"] == ["accepted"] * 3
    assert sum(len(plan["clients"]) for plan in one["attempts"][0]["plans"]) == 3
    assert api.get("/sessions/trained/rounds/9").status_code == 404


def test_clients_are_told_why_they_have_a_part_in_a_session_or_none(api: httpx.Client, trained: dict[str, Any]) -> None:
    reasons = {each["client"]: each["why"] for each in api.get("/sessions/trained/clients").json()["items"]}
    assert reasons["client1"] == "round 3, attempt 1: accepted"
    assert reasons["evaluator"] == "it validates only"


def test_last_best_and_trail_find_models(api: httpx.Client, trained: dict[str, Any]) -> None:
    assert api.get("/models/last", params={"session": "trained"}).json()["model"] == trained["model"]
    best = api.get("/models/best", params={"session": "trained", "metric": "test/mse"}).json()
    assert best["model"] == trained["model"]
    assert best["best"]["mode"] == "min"
    worst = api.get("/models/best", params={"session": "trained", "metric": "test/mse", "mode": "max"}).json()
    assert worst["round"] == 1
    trail = api.get(f"/models/{trained['model']}/trail").json()
    assert [each["round"] for each in trail["items"]] == [3, 2, 1, 0]
    part = api.get(f"/models/{trained['model']}/trail", params={"limit": 2}).json()
    assert part["next"] == trail["items"][2]["model"]
    missing = api.get("/models/best", params={"session": "trained", "metric": "auc"})
    assert missing.status_code == 404
    assert "test/mse" in missing.json()["error"]


def test_a_model_is_downloaded_with_its_hash_and_its_ledger(api: httpx.Client, trained: dict[str, Any]) -> None:
    answer = api.get(f"/models/{trained['model']}/download")
    assert answer.headers["x-content-sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert set(tensorblob.decode(answer.content)[0]) == {"coefficients", "intercept"}
    ledger = api.get(f"/models/{trained['model']}/ledger").json()
    assert [entry["client"] for entry in ledger["entries"]] == ["client1", "client2", "client3"]
    assert api.get(f"/models/{trained['seed']}/ledger").status_code == 404
    validations = api.get(f"/models/{trained['model']}/validations").json()["items"]
    assert {each["client"] for each in validations} == {"client1", "client2", "client3", "evaluator"}


def test_an_uploaded_seed_is_listed_used_and_kept_once(api: httpx.Client) -> None:
    data = tensorblob.encode({"coefficients": np.ones(7), "intercept": np.ones(1)})
    first = api.post("/models", content=data)
    assert first.status_code == 201
    seed = first.json()["model"]
    assert seed == f"seed-{hashlib.sha256(data).hexdigest()[:12]}"
    assert api.post("/models", content=data).status_code == 200
    assert seed in [each["model"] for each in api.get("/models/unused").json()["items"]]
    session = api.post("/start", json={"seed": seed, "rounds": 1}).json()["session"]
    assert _ended(api, session)["seed"] == seed
    assert seed not in [each["model"] for each in api.get("/models/unused").json()["items"]]


def test_a_name_is_one_models_name(api: httpx.Client) -> None:
    one, other = (tensorblob.encode({"w": np.full(2, value)}) for value in (1.0, 2.0))
    assert api.post("/models", params={"name": "mine"}, content=one).status_code == 201
    assert api.post("/models", params={"name": "mine"}, content=other).status_code == 409


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "nothing: it is empty"),
        (b"\x80\x04\x95", "a pickle, which may run code"),
        (b"PK\x03\x04rest", "a zip archive"),
        (tensorblob.encode({}), "it holds no tensors"),
        (tensorblob.encode({"a": np.ones(3), "b": np.full(300_000, np.inf)}), "tensor 'b' holds NaN or infinity"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"hello, I am a model", "found text;"),
        (b"\xff\xfe\x00", "no known form of a model"),
    ],
)
def test_what_is_no_model_is_refused_with_what_was_found(api: httpx.Client, content: bytes, found: str) -> None:
    answer = api.post("/models", content=content)
    assert answer.status_code == 422
    assert found in answer.json()["error"]


def test_blobs_are_read_by_their_references_keys_and_nothing_else(api: httpx.Client, trained: dict[str, Any]) -> None:
    ledger = api.get(f"/models/{trained['model']}/ledger").json()
    reference = ledger["entries"][0]["blob"]
    content = api.get(f"/blobs/{reference['key']}").content
    assert hashlib.sha256(content).hexdigest() == reference["sha256"]
    assert api.get("/blobs/models/none").status_code == 404
    assert api.get("/blobs/records.db").status_code == 422
    assert api.get("/blobs/models/..%2f..%2frecords.db").status_code == 422


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


# -- events ---------------------------------------------------------------------------------------------------------


def _stream(alliance: Served, until: str, headers: dict[str, str] | None = None, **query: str) -> list[dict[str, Any]]:
    """Events of a stream, up to the first of this name."""
    found: list[dict[str, Any]] = []
    with httpx.stream("GET", f"{alliance.url}/events/stream", params=query, headers=headers, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
                if found[-1]["name"] == until:
                    return found
    raise AssertionError(f"the stream ended without {until}")


def test_a_stream_replays_an_ended_session_whole_and_in_order(alliance: Served, trained: dict[str, Any]) -> None:
    found = _stream(alliance, "session.finished", session="trained", replay="true")
    names = [each["name"] for each in found]
    assert names[0] == "session.queued"
    assert names.count("round.committed") == 3
    assert names.count("update.accepted") == 9
    assert len({each["id"] for each in found}) == len(found)


def test_a_stream_tells_a_session_while_it_runs(alliance: Served, api: httpx.Client) -> None:
    session = api.post("/start", json={"rounds": 30}).json()["session"]
    found = _stream(alliance, "session.finished", session=session, replay="true")
    committed = [each["round"] for each in found if each["name"] == "round.committed"]
    assert committed == list(range(1, 31))


def test_a_stream_resumes_after_the_last_event_without_a_gap(alliance: Served, trained: dict[str, Any]) -> None:
    whole = _stream(alliance, "session.finished", session="trained", replay="true")
    middle = next(number for number, each in enumerate(whole) if each["name"] == "round.committed")
    resumed = _stream(alliance, "session.finished", {"Last-Event-ID": whole[middle]["id"]}, session="trained")
    assert [each["id"] for each in resumed[-(len(whole) - middle - 1) :]] == [
        each["id"] for each in whole[middle + 1 :]
    ]


def test_recorded_events_are_found_by_session_client_and_name(api: httpx.Client, trained: dict[str, Any]) -> None:
    query = {"session": "trained", "client": "client1", "name": "update.accepted"}
    found = api.get("/events", params=query).json()["items"]
    assert [each["round"] for each in found] == [3, 2, 1]
    oldest = api.get("/events", params={**query, "oldest_first": "true", "limit": 1}).json()["items"]
    assert oldest[0]["round"] == 1


# -- health and access ----------------------------------------------------------------------------------------------


def test_health_names_the_alliance(api: httpx.Client) -> None:
    answer = api.get("/health")
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["alliance"]) == ("ok", "sandbox")


def test_metrics_are_prometheus_text_that_counts_updates_and_rounds(api: httpx.Client, trained: dict[str, Any]) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    families = {family.name: family for family in text_string_to_metric_families(api.get("/metrics").text)}
    updates = {sample.labels["outcome"]: sample.value for sample in families["fedmq_updates"].samples}
    assert updates["accepted"] >= 9
    assert families["fedmq_clients"].samples[0].value == 4
    buckets = [sample.value for sample in families["fedmq_round_seconds"].samples if sample.name.endswith("_bucket")]
    assert buckets == sorted(buckets)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_changes_nothing(api: httpx.Client, headers: dict[str, str]) -> None:
    before = _count(api)
    assert api.post("/start", json={}, headers=headers).status_code == 403
    assert _count(api) == before


def test_a_page_of_this_server_may_start(alliance: Served, api: httpx.Client) -> None:
    headers = {"Origin": alliance.url, "Sec-Fetch-Site": "same-origin"}
    assert api.post("/start", json={"rounds": 1}, headers=headers).status_code == 202


def test_a_local_server_answers_to_local_names_only(api: httpx.Client) -> None:
    answer = api.get("/health", headers={"Host": "evil.example:8090"})
    assert answer.status_code == 421


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/start", b'{"rounds":', 422, "the body is not JSON: "),
        ("POST", "/start", b"rounds=3", 422, "the body is not JSON: "),
        ("POST", "/start", b"[]", 422, 'the body must be a JSON object, sent as application/json: {"rounds": 5}'),
        ("POST", "/start?id=a%20b", b"{}", 422, "id: 'a b' is no session's id: that is up to 64 letters"),
        ("POST", "/models?name=../x", b"x", 422, "name: '../x' is no model's name: that is up to 100 letters"),
        ("GET", "/sessions?after=x", b"", 422, "after: 'x' is no `next` of a page"),
        ("GET", "/sessions?state=x", b"", 422, "state: must be 'queued', 'waiting'"),
        ("GET", "/models?session=none", b"", 404, "there is no session 'none'"),
        ("GET", "/models/last?session=none", b"", 404, "there is no session 'none'"),
        ("GET", "/sesions", b"", 404, "GET /sesions: there is no such thing to ask; /docs lists what there is"),
        ("DELETE", "/models", b"", 405, "DELETE /models: there is no such thing to ask"),
    ],
)
def test_a_wrong_request_is_told_what_to_change(
    api: httpx.Client, method: str, path: str, body: bytes, status: int, words: str
) -> None:
    answer = api.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_the_document_of_the_api_is_served(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    assert {"/start", "/sessions/{session}", "/models/{model}/download", "/events/stream", "/health"} <= set(paths)
    assert api.get("/docs").status_code == 200


def test_with_a_token_changes_need_it_and_reading_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_ADMIN_TOKEN", "sesame")
    with served(tmp_path / "state", clients=1) as guarded, httpx.Client(base_url=guarded.url) as api:
        assert api.get("/sessions").status_code == 200
        for answer in (api.get("/start"), api.post("/start", json={}), api.post("/models", content=b"x")):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic")
            assert "FEDN_ADMIN_TOKEN): none came" in answer.json()["error"]
        wrong = api.get("/start", headers={"Authorization": "Bearer wrong"})
        assert (wrong.status_code, "the token that came is another" in wrong.json()["error"]) == (401, True)
        assert api.get("/blobs/models/none").status_code == 401
        assert api.get("/start?rounds=1", headers={"Authorization": "Bearer sesame"}).status_code == 202
        assert api.get("/start?rounds=1", auth=("anybody", "sesame")).status_code == 202


def test_a_model_that_was_let_go_is_410_and_its_record_is_not(alliance: Served, api: httpx.Client) -> None:
    policy = {
        "rounds": 3,
        "seed": SEED,
        "retention": {"keep_models": 0},
        "select": {"metric": "test/mse", "mode": "max"},
    }
    api.post("/start", json=policy, params={"id": "sparing"})
    _ended(api, "sparing")
    models: list[dict[str, Any]] = []
    while all(each["kept"] for each in models):
        threading.Event().wait(0.01)
        models = api.get("/models", params={"session": "sparing"}).json()["items"]
    gone = next(each["model"] for each in models if not each["kept"])
    answer = api.get(f"/models/{gone}/download")
    assert (answer.status_code, "fedmq models --session sparing" in answer.json()["error"]) == (410, True)
    assert api.get(f"/models/{gone}").json()["kept"] is False
    assert api.get(f"/models/{gone}/ledger").status_code == 200
    assert api.post("/start", json={"rounds": 1, "seed": gone}).status_code == 410
    assert api.get("/models/best", params={"session": "sparing"}).json()["kept"] is True


@pytest.mark.parametrize(("path", "key"), [("/events?name=No!", "name"), ("/events?client=%20", "client")])
def test_a_text_of_another_form_is_422_at_its_key(api: httpx.Client, path: str, key: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.json()["error"].partition(":")[0]) == (422, key)
