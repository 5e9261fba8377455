"""An alliance from Python, as a notebook uses it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3

from fedmq.tensors import tensorblob
from fedmq_sdk import Alliance, ConfigError, NotFound, Refused, SessionHandle, Transient
from support.servers.passing_faults import PassingFaults
from support.servers.served import Served, served

SEED = "seed-5d1e84adb228"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("alliance")) as box:
        yield box


@pytest.fixture(scope="module")
def alliance(running: Served) -> Alliance:
    return Alliance(running.url)


@pytest.fixture(scope="module")
def trained(alliance: Alliance) -> SessionHandle:
    session = alliance.start({"seed": SEED, "random_seed": 5}, rounds=3, train={"learning_rate": 0.5})
    session.wait(60)
    return session


def test_a_started_session_is_waited_for_and_told(trained: SessionHandle) -> None:
    document = trained.refresh()
    assert (trained.state, document["rounds_committed"]) == ("finished", 3)
    assert document["policy"]["train"] == {"learning_rate": 0.5}
    assert trained.model == document["model"]


def test_metrics_are_rows_of_numbers_from_the_seed_on(trained: SessionHandle) -> None:
    rows = trained.metrics()
    assert [row["round"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["model"] == SEED
    assert rows[3]["test/mse"] < rows[0]["test/mse"]
    assert "training/mse" not in rows[0]
    assert [row["training/mse"] for row in rows[1:]] == [row["metrics"]["mse"]["mean"] for row in trained.rounds()]
    assert rows[3]["mse min"] <= rows[3]["mse median"] <= rows[3]["mse max"]


def test_rounds_carry_their_counts_as_columns(trained: SessionHandle) -> None:
    assert [(row["round"], row["accepted"], row["failed"]) for row in trained.rounds()] == [
        (1, 3, 0),
        (2, 3, 0),
        (3, 3, 0),
    ]


def test_following_tells_every_event_of_a_session_once_and_then_ends(alliance: Alliance) -> None:
    events = list(alliance.start(rounds=20).follow())
    assert [event["round"] for event in events if event["name"] == "round.committed"] == list(range(1, 21))
    assert len({event["id"] for event in events}) == len(events)
    assert events[-1]["name"] == "session.finished"


def test_models_come_as_weights_and_as_files(alliance: Alliance, trained: SessionHandle, tmp_path: Path) -> None:
    weights = alliance.weights("last", session=trained.id)
    path = alliance.download(str(trained.model), tmp_path)
    assert path == tmp_path / f"{trained.model}.safetensors"
    assert tensorblob.decode(path.read_bytes())[0].keys() == weights.keys()
    assert [each["round"] for each in alliance.trail(str(trained.model))] == [3, 2, 1, 0]
    assert alliance.model("best", session=trained.id, metric="test/mse")["best"]["mode"] == "min"
    assert alliance.models(trained.id)[0]["test/mse"] == trained.metrics()[3]["test/mse"]
    assert {row["client"] for row in alliance.validations(str(trained.model))} >= {"client1", "evaluator"}
    assert len(alliance.ledger(str(trained.model))["entries"]) == 3


def test_arrays_become_a_seed_and_the_same_arrays_the_same_seed(alliance: Alliance) -> None:
    weights = {"coefficients": np.full(7, 2.0), "intercept": np.zeros(1)}
    seed = alliance.upload(weights)
    assert alliance.upload(weights) == seed
    assert seed in [each["model"] for each in alliance.unused_models()]
    assert alliance.start(seed=seed, rounds=1).wait(60)["seed"] == seed


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        ({}, "holds no arrays"),
        ({"w": np.array([1, np.nan])}, "tensor 'w' holds NaN or infinity"),
        ({"w": [1, "x"]}, "tensor 'w' is str"),
        ({"w": np.array([{}])}, "tensor 'w' is object: save it"),
    ],
)
def test_arrays_that_no_session_could_start_from_are_refused(
    alliance: Alliance, seed: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        alliance.upload(seed)


def test_lists_are_arrays_and_numpys_numbers_are_numbers(alliance: Alliance) -> None:
    seed = alliance.upload({"coefficients": [0.0] * 7, "intercept": [0.0]})
    session = alliance.start(seed=seed, rounds=np.int64(1), train={"learning_rate": np.float32(0.5), "x": np.arange(2)})
    assert session.wait(60)["policy"]["train"] == {"learning_rate": 0.5, "x": [0, 1]}


def test_a_session_file_comes_back(trained: SessionHandle) -> None:
    assert "learning_rate = 0.5" in trained.toml()


def test_who_is_there_and_why_not_in_a_session(alliance: Alliance, trained: SessionHandle) -> None:
    assert len(alliance.clients("present")) == 4
    assert [row["combiner"] for row in alliance.combiners()] == ["combiner1", "combiner2"]
    assert {row["client"]: row["drawn"] for row in trained.why()}["evaluator"] is False
    assert next(iter(alliance.events(trained.id)))["name"] == "session.finished"


def test_a_session_that_fails_is_refused_with_its_reason(alliance: Alliance) -> None:
    with pytest.raises(Refused, match="waiting for clients, 3 of 9"):
        alliance.start(clients_required=9, wait=0.1).wait(60)


def test_a_session_whose_trainers_fail_is_refused_with_a_traceback_as_a_note(alliance: Alliance) -> None:
    with pytest.raises(Refused, match="clients failed: train raised") as refused:
        alliance.start(rounds=1, retries=0, train={"learning_rate": "much"}).wait(60)
    [note] = refused.value.__notes__
    assert note.startswith("Traceback") and "trainer.py" in note


def test_waiting_has_an_end(alliance: Alliance) -> None:
    session = alliance.start(rounds=100_000)
    with pytest.raises(Transient, match="is still"):
        session.wait(0.05)
    session.stop()
    assert session.wait(60)["state"] == "stopped"


def test_errors_are_of_the_kind_that_they_are(alliance: Alliance, running: Served) -> None:
    with pytest.raises(ConfigError, match="did you mean 'rounds'"):
        alliance.start(round=3)
    with pytest.raises(NotFound, match="there is no session 'none'"):
        alliance.session("none")
    with pytest.raises(ConfigError, match="http://HOST"):
        Alliance("localhost:8090")
    with pytest.raises(Transient, match="fedmq sandbox"):
        Alliance("http://127.0.0.1:9").health()
    with pytest.raises(NotFound):
        Alliance(f"{running.url}/elsewhere").health()
    with pytest.raises(ConfigError, match="is of type object: use numbers, texts, lists and dicts"):
        alliance.start(train={"x": object()})
    with pytest.raises(ConfigError, match="can't be sent as JSON: keys must be"):
        alliance.start(train={(1, 2): 3})
    with pytest.raises(ConfigError, match="has it a line end"):
        Alliance(running.url, token="sesame\n")


def test_a_lost_stream_is_taken_up_without_a_gap_or_a_repeat(
    alliance: Alliance, trained: SessionHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [event["id"] for event in trained.follow()]
    read_chunked = urllib3.HTTPResponse.read_chunked
    lost = threading.Event()

    def breaking(response: urllib3.HTTPResponse) -> Iterator[bytes]:
        for piece in read_chunked(response):
            if b"data: " in piece and not lost.is_set():
                lost.set()
                yield piece[: len(piece) // 2]
                raise urllib3.exceptions.ProtocolError("the connection is lost")
            yield piece

    monkeypatch.setattr(urllib3.HTTPResponse, "read_chunked", breaking)
    assert [event["id"] for event in trained.follow()] == whole
    assert lost.is_set()


def test_stores_that_are_busy_for_a_moment_are_waited_for(
    alliance: Alliance, trained: SessionHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = alliance._rest.json
    busy = iter([Transient("MongoDB refused with code 112")])

    def json(method: str, path: str) -> dict[str, object]:
        for error in busy:
            raise error
        return answer(method, path)

    monkeypatch.setattr(alliance._rest, "json", json)
    assert trained.state == "finished"
    assert not [*busy]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> PassingFaults:
    return PassingFaults(monkeypatch)


def test_reads_are_repeated_while_the_fault_passes(
    trained: SessionHandle, running: Served, faults: PassingFaults, tmp_path: Path
) -> None:
    alliance = Alliance(running.url)
    session = alliance.session(trained.id)
    assert session.wait(10)["state"] == "finished"
    assert [row["round"] for row in session.rounds()] == [1, 2, 3]
    model = str(session.model)
    assert alliance.download(model, tmp_path).is_file()
    assert alliance.weights(model).keys()
    assert [event["name"] for event in session.follow()][-1] == "session.finished"
    assert min(faults.seen.values()) >= 3, "each address failed twice"


def test_neither_a_change_nor_a_request_to_no_server_is_repeated(running: Served, faults: PassingFaults) -> None:
    faults.is_lasting = True
    with pytest.raises(Transient, match="code 112"):
        Alliance(running.url).start(rounds=1)
    with pytest.raises(Transient, match="code 112"):
        Alliance(running.url, patience=0).health()
    assert list(faults.seen.values()) == [1, 1]
    with pytest.raises(Transient, match="is a reducer there"):
        Alliance(running.url).health()
    assert list(faults.seen.values()) == [1, 2]
