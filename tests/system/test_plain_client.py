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
from system.deployment import Deployment

PROGRAM = Path(__file__).parents[2] / "examples" / "plain_amqp_client.py"
ROWS, FEATURES = 30, 40


def test_the_plain_client_is_short_and_imports_pika_and_the_standard_library_alone() -> None:
    text = PROGRAM.read_text()
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }

    assert len(text.splitlines()) <= 100
    assert imported - set(sys.stdlib_module_names) == {"pika"}


@pytest.mark.system
def test_a_client_of_pika_and_urllib_alone_trains_in_a_session(alliance: Deployment, tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(ROWS, FEATURES + 1))
    file = tmp_path / "rows.csv"
    np.savetxt(file, rows, delimiter=",", fmt="%.17g")
    with plain_client(alliance, file):
        alliance.await_present(tables.CLIENTS, 7)
        alliance.start_session("plain", seed="seed-system", rounds=3, clients_required=7, random_seed=1)
        assert alliance.await_end("plain")["state"] == "finished"

    first, *_ = alliance.check_ledgers("plain", rounds=3)
    [entry] = [entry for entry in first.entries if entry.client == "outsider"]
    assert (entry.outcome, entry.weight) == ("accepted", ROWS)
    assert entry.blob is not None
    delta, _ = tensorblob.decode(alliance.blobs.get(entry.blob.key))
    gradient = rows[:, :-1].T @ -rows[:, -1] / ROWS
    np.testing.assert_allclose(delta["coefficients"], -0.1 * gradient, rtol=1e-5)


@contextmanager
def plain_client(alliance: Deployment, file: Path) -> Iterator[None]:
    arguments = [alliance.servers.rabbitmq.url, alliance.alliance, "outsider", str(file)]
    with (alliance.folder / "outsider.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-P", str(PROGRAM), *arguments], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        alliance.until(lambda: is_away(alliance.records.get(tables.CLIENTS, "outsider")), "end of outsider")


def is_away(client: Document | None) -> bool:
    return client is None or client["state"] == "away"
