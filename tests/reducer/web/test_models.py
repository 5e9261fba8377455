"""Models over the web API: the trail, downloads and uploads."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import numpy as np
import pytest

from fedmq.tensors import tensorblob
from support.servers.served import Served
from support.waiting import until

from .alliance import SEED, await_end


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
    assert await_end(api, session)["seed"] == seed
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


def test_the_download_of_an_expired_model_is_410_and_its_record_is_not(alliance: Served, api: httpx.Client) -> None:
    policy = {
        "rounds": 3,
        "seed": SEED,
        "retention": {"keep_models": 0},
        "select": {"metric": "test/mse", "mode": "max"},
    }
    api.post("/start", json=policy, params={"id": "sparing"})
    await_end(api, "sparing")

    def expired() -> str | None:
        models = api.get("/models", params={"session": "sparing"}).json()["items"]
        return next((each["model"] for each in models if not each["kept"]), None)

    gone = until(expired, "a model of the session is no longer kept")
    answer = api.get(f"/models/{gone}/download")
    assert (answer.status_code, "fedmq models --session sparing" in answer.json()["error"]) == (410, True)
    assert api.get(f"/models/{gone}").json()["kept"] is False
    assert api.get(f"/models/{gone}/ledger").status_code == 200
    assert api.post("/start", json={"rounds": 1, "seed": gone}).status_code == 410
    assert api.get("/models/best", params={"session": "sparing"}).json()["kept"] is True


def test_a_seed_with_integers_without_a_role_is_refused_with_the_choices(api: httpx.Client) -> None:
    weights = {"w": np.ones(2), "ids": np.arange(9)}
    answer = api.post("/models", content=tensorblob.encode(weights))
    assert answer.status_code == 422
    assert "no session could start from this model: tensor 'ids' holds integers, int64 [9]" in answer.json()["error"]
    assert "`fedmq seed --role`" in answer.json()["error"]
    assert api.post("/models", content=tensorblob.encode(weights, {"roles": {"ids": "constant"}})).status_code == 201


def test_a_seed_with_opaque_bytes_may_hold_any_float(api: httpx.Client) -> None:
    weights = {"w": np.ones(2), "raw": np.array([np.nan, 1])}
    assert api.post("/models", content=tensorblob.encode(weights)).status_code == 422
    assert api.post("/models", content=tensorblob.encode(weights, {"roles": {"raw": "opaque"}})).status_code == 201
