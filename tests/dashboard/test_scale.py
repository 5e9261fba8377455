"""Pages take under a second of this process's time with 1,000 clients and 100 rounds recorded.

Processor time, which the load of the machine does not change: server and requests are both in this process.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dashboard.test_server import update
from fedmq.records.sqlite import SqliteRecords
from fedmq_dashboard.app import PAGES
from fedmq_dashboard.live import Live
from fedmq_dashboard.serve import DashboardServer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CLIENTS, ROUNDS = 1000, 100
SECONDS = 1.0

# Writing so many records takes longer than all other tests of the dashboard together.
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        module = importlib.import_module("generate_records")
    records = SqliteRecords(tmp_path_factory.mktemp("scale") / "records.db")
    module.generate(records, CLIENTS, ROUNDS)
    server = DashboardServer(records, Live(), port=0)
    server.start()
    yield server.url
    server.stop()
    records.close()


def _seconds(url: str, path: str, search: str) -> float:
    began = time.process_time()
    answer = update(url, path, search)
    assert answer.status_code == 200
    return time.process_time() - began


@pytest.mark.parametrize("path", [page.path for page in PAGES])
def test_a_page_answers_in_under_a_second(url: str, path: str) -> None:
    assert min(_seconds(url, path, "?session=s-long") for _ in range(3)) < SECONDS


def test_the_matrix_of_all_clients_answers_in_under_a_second(url: str) -> None:
    assert min(_seconds(url, "/clients", "?session=s-long&rows=all") for _ in range(3)) < SECONDS


def test_the_table_is_exported_in_under_a_second(url: str) -> None:
    began = time.process_time()
    assert (
        len(httpx.get(f"{url}/export/table.json").json()) == ROUNDS + ROUNDS // 5 + 2
    )  # each session's models and its first one
    assert time.process_time() - began < SECONDS
