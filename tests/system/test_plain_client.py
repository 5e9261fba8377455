"""The contract in `schemas/` is enough: a client of pika and urllib alone trains beside ours."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fedmq.records.base import Document
from fedmq.tensors import tensorblob
from fedmq_schemas import records as tables
from support.waiting import SECONDS
from system.deployment import Deployment

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAM, MODEL = EXAMPLES / "plain_amqp_client.py", EXAMPLES / "plain_model.py"
ROWS, FEATURES = 30, 40


def test_the_plain_client_is_short_and_imports_pika_and_the_standard_library_alone() -> None:
    texts = [PROGRAM.read_text(), MODEL.read_text()]
    imported = {
        name.partition(".")[0]
        for text in texts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }

    assert all(len(text.splitlines()) <= 350 for text in texts)
    assert imported - set(sys.stdlib_module_names) == {"pika", "plain_model"}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file of rows. The client keeps its updates beside it."""
    file = tmp_path / "rows.csv"
    np.savetxt(file, np.random.default_rng(1).normal(size=(ROWS, FEATURES + 1)), delimiter=",", fmt="%.17g")
    return file


@pytest.mark.system
def test_a_client_of_pika_and_urllib_alone_trains_in_a_session(alliance: Deployment, rows: Path) -> None:
    with plain_client(alliance, rows) as outsider:
        alliance.await_present(tables.CLIENTS, 7)
        alliance.start_session("plain", seed="seed-system", rounds=3, clients_required=7, random_seed=1)
        assert alliance.await_end("plain")["state"] == "finished"
        assert alliance.records.get(tables.CLIENTS, "outsider")["json_reader"]  # type: ignore[index]
        outsider.terminate()
        assert outsider.wait(SECONDS) == 0

    first, *_ = alliance.check_ledgers("plain", rounds=3)
    [entry] = [entry for entry in first.entries if entry.client == "outsider"]
    assert (entry.outcome, entry.weight) == ("accepted", ROWS)
    assert {"fetch", "train", "upload", "total"} <= entry.seconds.keys()
    assert entry.blob is not None
    delta, _ = tensorblob.decode(alliance.blobs.get(entry.blob.key))
    found = np.loadtxt(rows, delimiter=",")
    gradient = found[:, :-1].T @ -found[:, -1] / ROWS
    np.testing.assert_allclose(delta["coefficients"], -0.1 * gradient, rtol=1e-5)
    scored = alliance.records.find(tables.VALIDATIONS, {"client": "outsider", "session": "plain"})
    assert sorted(record["round"] for record in scored) == [0, 1, 2, 3]
    left = alliance.records.find(tables.EVENTS, {"client": "outsider", "name": "client.vanished"})
    assert [event["data"]["reason"] for event in left] == ["it left"]


@pytest.mark.system
def test_the_plain_client_trains_on_after_it_is_killed_and_the_broker_restarts(
    alliance: Deployment, rows: Path
) -> None:
    policy = {"rounds": 4, "clients_required": 7, "random_seed": 1, "train": {"seconds": 1.0}}
    with plain_client(alliance, rows) as outsider:
        alliance.await_present(tables.CLIENTS, 7)
        alliance.start_session("plain-killed", seed="seed-system", **policy)
        alliance.await_round("plain-killed", 1)
        outsider.kill()
        outsider.wait()
        with plain_client(alliance, rows):
            alliance.await_round("plain-killed", 2)
            alliance.servers.rabbitmq.stop()
            alliance.servers.rabbitmq.start()
            assert alliance.await_end("plain-killed")["state"] == "finished"

    for ledger in alliance.check_ledgers("plain-killed", rounds=4):
        [entry] = [entry for entry in ledger.entries if entry.client == "outsider"]
        assert entry.outcome == "accepted"


@pytest.mark.system
def test_a_value_that_the_plain_client_can_not_train_on_is_declined_with_the_reason(
    alliance: Deployment, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("1.0,2.0\n")  # of another number of features than the model has
    with plain_client(alliance, file):
        alliance.await_present(tables.CLIENTS, 7)
        alliance.start_session("plain-failed", seed="seed-system", rounds=1, clients_required=6, random_seed=1)
        assert alliance.await_end("plain-failed")["state"] == "finished"
    [ledger] = alliance.check_ledgers("plain-failed", rounds=1)
    [entry] = [entry for entry in ledger.entries if entry.client == "outsider"]
    assert entry.outcome == "failed" and entry.reason


@contextmanager
def plain_client(alliance: Deployment, file: Path) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [alliance.servers.rabbitmq.url, alliance.alliance, "outsider", str(file)]
    with (alliance.folder / "outsider.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, str(PROGRAM), *arguments], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        alliance.until(lambda: is_away(alliance.records.get(tables.CLIENTS, "outsider")), "end of outsider")


def is_away(client: Document | None) -> bool:
    return client is None or client["state"] == "away"
