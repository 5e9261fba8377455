"""The dashboard behind a port: exports, health, compression, and records that are away."""

from __future__ import annotations

import csv
import io
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx
import pytest

from dashboard.small_world import small_world
from fedmq.errors import ConfigError, Transient
from fedmq.records.base import Document
from fedmq.records.sqlite import SqliteRecords
from fedmq_dashboard.live import Live
from fedmq_dashboard.process import open_state_dir
from fedmq_dashboard.serve import DashboardServer


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = DashboardServer(small_world(), Live(), port=0)
    server.start()
    yield server.url
    server.stop()


def update(url: str, pathname: str, search: str = "") -> httpx.Response:
    """What the browser asks when an address is shown."""
    targets = [
        ("nav", "children"),
        ("controls", "children"),
        ("body", "children"),
        ("trouble", "children"),
        ("shown", "data"),
    ]
    body = {
        "output": "..nav.children...controls.children...body.children...trouble.children...shown.data..",
        "outputs": [{"id": name, "property": value} for name, value in targets],
        "inputs": [
            {"id": "url", "property": "pathname", "value": pathname},
            {"id": "url", "property": "search", "value": search},
            {"id": "tick", "property": "data", "value": {}},
        ],
        "state": [{"id": "shown", "property": "data", "value": {}}],
        "changedPropIds": ["url.pathname"],
    }
    return httpx.post(f"{url}/_dash-update-component", json=body, timeout=30)


def test_an_export_as_csv_has_what_the_table_shows(url: str) -> None:
    answer = httpx.get(f"{url}/export/table.csv", params={"columns": "accuracy,test/accuracy", "sort": "accuracy"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert list(rows[0]) == ["model", "session", "round", "accuracy", "test/accuracy"]
    accuracies = [float(row["accuracy"]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True) and len(rows) == 5
    assert "attachment" in answer.headers["content-disposition"]


def test_an_export_as_json_parses(url: str) -> None:
    rows = json.loads(httpx.get(f"{url}/export/table.json").text)
    assert [row["round"] for row in rows] == [4, 3, 2, 1, 0]


def test_large_answers_are_compressed(url: str) -> None:
    assert update(url, "/").headers["content-encoding"] == "gzip"


def test_an_address_is_answered_with_its_page(url: str) -> None:
    assert "Model trail" in update(url, "/models").text
    assert "There is no such page" in update(url, "/nowhere").text


def test_the_stream_begins_at_once(url: str) -> None:
    with httpx.stream("GET", f"{url}/stream") as answer:
        assert next(answer.iter_lines()) == 'data: {"any": "0+", "rounds": "0+", "clock": "0"}'


def test_a_taken_port_is_a_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"can't listen on 127\.0\.0\.1"):
            DashboardServer(SqliteRecords(":memory:"), Live(), port=taken.getsockname()[1])


def test_a_folder_without_records_is_a_clear_error(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="there are no records in"):
        open_state_dir(tmp_path)


def test_records_that_are_away_are_told_in_the_page() -> None:
    class Away(SqliteRecords):
        def find(self, table: str, where: Mapping[str, Any] | None = None, **options: Any) -> Sequence[Document]:
            raise Transient("no primary is there")

    server = DashboardServer(Away(":memory:"), Live(), port=0)
    server.start()
    try:
        assert "The records can't be read now: no primary is there" in update(server.url, "/clients").text
        assert httpx.get(f"{server.url}/export/table.csv").status_code == 503
    finally:
        server.stop()


def test_stopping_ends_open_streams() -> None:
    server = DashboardServer(SqliteRecords(":memory:"), Live(), port=0)
    server.start()
    with httpx.stream("GET", f"{server.url}/stream", timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        server.stop()
        assert not any(line.startswith("data") for line in lines)
