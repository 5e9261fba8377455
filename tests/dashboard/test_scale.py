"""Pages answer in under a second with 1,000 clients and 100 rounds recorded."""

from __future__ import annotations

import importlib.util
import sys
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

GENERATOR = Path(__file__).parents[2] / "benchmarks" / "generate_records.py"
CLIENTS, ROUNDS = 1000, 100
SECONDS = 1.0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    spec = importlib.util.spec_from_file_location("generate_records", GENERATOR)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate_records"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    records = SqliteRecords(tmp_path_factory.mktemp("scale") / "records.db")
    module.generate(records, CLIENTS, ROUNDS)
    server = DashboardServer(records, Live(), port=0)
    server.start()
    yield server.url
    server.stop()
    records.close()


def _seconds(url: str, path: str, search: str) -> float:
    began = time.perf_counter()
    answer = update(url, path, search)
    assert answer.status_code == 200
    return time.perf_counter() - began


@pytest.mark.parametrize("path", [page.path for page in PAGES])
def test_a_page_answers_in_under_a_second(url: str, path: str) -> None:
    assert min(_seconds(url, path, "?session=s-long") for _ in range(3)) < SECONDS


def test_the_matrix_of_all_clients_answers_in_under_a_second(url: str) -> None:
    assert min(_seconds(url, "/clients", "?session=s-long&rows=all") for _ in range(3)) < SECONDS


def test_the_table_is_exported_in_under_a_second(url: str) -> None:
    began = time.perf_counter()
    assert len(httpx.get(f"{url}/export/table.json").json()) == ROUNDS + ROUNDS // 5 + 1
    assert time.perf_counter() - began < SECONDS
