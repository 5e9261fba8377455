"""How the plain client uploads and which request it answers. `tests/system/test_plain_client.py` runs it on real servers."""

from __future__ import annotations

import hashlib
import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
DELTA = b"delta"
CONTENT = {"size": len(DELTA), "sha256": hashlib.sha256(DELTA).hexdigest()}
Put = tuple[str, dict[str, str] | None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    rows = tmp_path / "rows.csv"
    rows.write_text("1.0,2.0\n")
    monkeypatch.setattr(sys, "argv", ["plain_amqp_client.py", "amqp://localhost", "north", "c1", str(rows)])
    monkeypatch.syspath_prepend(str(EXAMPLES))
    spec = importlib.util.spec_from_file_location("plain_amqp_client", EXAMPLES / "plain_amqp_client.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def puts(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[Put]:
    """The PUTs so far. One to a URL that ends in `expired` is refused with 403."""
    found: list[Put] = []

    def http(_: str, url: str, data: bytes, __: float, headers: dict[str, str] | None = None) -> bytes:
        assert data == DELTA
        found.append((url, headers))
        if url.endswith("expired"):
            raise program.UrlExpired
        return b""

    monkeypatch.setattr(program, "http", http)
    monkeypatch.setattr(program.time, "sleep", lambda _: None)
    return found


def task(attempt: int = 1, model: str = "a", **more: Any) -> dict[str, Any]:
    plan = {"session": "s", "round": 1, "attempt": attempt, "part": 0, "action": "train"}
    return {"plan": plan, "combiner": "k1", "timeout": 60.0, "model": {"key": "m", "sha256": model * 64}, **more}


def ticket(url: str, attempt: int = 1, reason: str = "", **content: Any) -> dict[str, Any]:
    blob = {"key": f"updates/{attempt}", **CONTENT, **content}
    return {"plan": task(attempt)["plan"], "blob": blob, "url": url, "headers": {"h": url}, "reason": reason}


def published(client: Any) -> list[tuple[str, dict[str, Any]]]:
    """Kind and body of the messages so far, with those that the worker has asked for."""
    while not client.from_work.empty():
        client.from_work.get()()
    return [(kind, body) for *_, kind, body in client.unsent]


def test_an_update_is_uploaded_with_the_url_and_the_headers_of_the_ticket_for_its_content(
    program: ModuleType, puts: list[Put]
) -> None:
    client, job = program.Client(), program.Job(task())
    job.tickets.put(ticket("http://another", sha256="f" * 64))
    job.tickets.put(ticket("http://this"))
    assert client.upload(job, DELTA) == (task(), {"key": "updates/1", **CONTENT})
    assert puts == [("http://this", {"h": "http://this"})]
    assert published(client) == [("upload", {"plan": task()["plan"], **CONTENT})]


def test_another_ticket_is_requested_after_403(program: ModuleType, puts: list[Put]) -> None:
    client, job = program.Client(), program.Job(task())
    job.tickets.put(ticket("http://expired"))
    job.tickets.put(ticket("http://fresh"))
    client.upload(job, DELTA)
    assert [url for url, _ in puts] == ["http://expired", "http://fresh"]
    assert [kind for kind, _ in published(client)] == ["upload", "upload"]


def test_a_ticket_that_does_not_arrive_is_requested_again_after_ten_seconds(
    program: ModuleType, puts: list[Put], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, job = program.Client(), program.Job(task())
    asked_at, now = [], [0.0]
    monkeypatch.setattr(program.time, "monotonic", lambda: now[0])
    job.until = 60.0

    class Tickets:
        def get(self, timeout: float) -> dict[str, Any]:
            now[0] += 1.0
            if now[0] <= 10.0:
                raise program.queue.Empty
            return ticket("http://late")

    def answer(*_: Any, **__: Any) -> None:
        asked_at.append(now[0])

    job.tickets, client.answer = Tickets(), answer
    client.upload(job, DELTA)
    assert asked_at == [0.0, 10.0]
    assert [url for url, _ in puts] == ["http://late"]


def test_a_renewed_task_needs_a_ticket_of_its_own_plan(program: ModuleType, puts: list[Put]) -> None:
    client, job = program.Client(), program.Job(task())
    job.renew(task(attempt=2))
    job.tickets.put(ticket("http://first"))
    job.tickets.put(ticket("http://second", attempt=2))
    assert client.upload(job, DELTA) == (task(attempt=2), {"key": "updates/2", **CONTENT})
    assert [url for url, _ in puts] == ["http://second"]


def test_a_ticket_with_a_reason_ends_the_upload(program: ModuleType, puts: list[Put]) -> None:
    client, job = program.Client(), program.Job(task())
    job.tickets.put(ticket("", reason="the update is too large"))
    with pytest.raises(program.NoAnswer):
        client.upload(job, DELTA)
    assert puts == []


def test_the_url_of_a_task_of_release_0_2_needs_no_ticket(program: ModuleType, puts: list[Put]) -> None:
    client, job = program.Client(), program.Job(task(upload_url="http://old", upload_key="updates/old"))
    assert client.upload(job, DELTA)[1] == {"key": "updates/old", **CONTENT}
    assert puts == [("http://old", None)]
    assert published(client) == []


def test_client_hello_states_that_it_uploads_with_tickets(program: ModuleType) -> None:
    client = program.Client()
    client.hello("k1")
    assert [(kind, body["tickets"]) for kind, body in published(client)] == [("client_hello", True)]


def test_an_attempt_with_another_model_is_trained_again(program: ModuleType) -> None:
    client, job = program.Client(), program.Job(task())
    client.under_way = job
    client.requested(task(attempt=2), is_again=False)
    assert (job.task, job.is_cancelled) == (task(attempt=2), False)
    client.requested(task(attempt=3, model="b"), is_again=False)
    assert job.is_cancelled
    assert [each.task for each in client.waiting.values()] == [task(attempt=3, model="b")]


def test_rows_of_another_width_than_the_model_are_refused(program: ModuleType) -> None:
    model = {"coefficients": ("F64", [3], [0.0] * 3), "intercept": ("F64", [1], [0.0])}
    with pytest.raises(ValueError, match="3 features"):
        program.errors(model, program.ROWS)


class Broker:
    """A connection whose broker closes each channel with `code`. After `most` of them it ends the client's process."""

    is_open = True
    consumer_tags = ()

    def __init__(self, program: ModuleType, client: Any, code: int, most: int) -> None:
        self.program, self.client, self.code, self.left = program, client, code, most

    def channel(self) -> Broker:
        return self

    def process_data_events(self, time_limit: float) -> None:
        self.client.is_leaving = self.client.is_leaving or self.left <= 0

    def confirm_delivery(self) -> None: ...

    def basic_qos(self, prefetch_count: int) -> None: ...

    def basic_publish(self, *_: Any) -> None:
        self.left -= 1
        raise self.program.pika.exceptions.ChannelClosedByBroker(self.code, "why")


@pytest.mark.parametrize("code", [403, 406])
def test_a_channel_that_is_refused_ends_the_client_with_the_reason(program: ModuleType, code: int) -> None:
    client = program.Client()
    with pytest.raises(SystemExit, match=f"{code} why"):
        client.serve(Broker(program, client, code, most=3))


def test_a_missing_exchange_or_mailbox_is_retried_and_a_signal_ends_the_client(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be published kept the client from leaving."""
    now = iter(range(0, 1_000))
    monkeypatch.setattr(program.time, "monotonic", lambda: float(next(now)))
    client = program.Client()
    broker = Broker(program, client, 404, most=3)
    client.serve(broker)
    assert broker.left < 0 and client.unsent


def test_a_client_without_arguments_prints_its_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["plain_amqp_client.py"])
    monkeypatch.syspath_prepend(str(EXAMPLES))
    with pytest.raises(SystemExit, match=r"usage: .* AMQP_URL ALLIANCE NAME"):
        runpy.run_path(str(EXAMPLES / "plain_amqp_client.py"))
