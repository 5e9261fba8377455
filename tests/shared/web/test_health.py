"""`/health`, `/ready` and `/metrics` as orchestrators and Prometheus read them."""

from __future__ import annotations

import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fedmq.errors import ConfigError
from fedmq.web import health
from fedmq.web.access import Access
from fedmq.web.families import RECEIVED, UNSETTLED, UPTIME, Sample
from fedmq.web.health import MOST_CONNECTIONS, HealthServer, exposition
from support.waiting import SECONDS, until


class Patient:
    well = True
    late: Callable[[], tuple[bool, dict[str, Any]]] | None = None

    def health(self) -> tuple[bool, dict[str, Any]]:
        if self.late is not None:
            return self.late()
        return self.well, {"status": "ok" if self.well else "silent"}

    def ready(self) -> tuple[bool, dict[str, Any]]:
        return False, {"lacks": ["broker: away"]}

    def samples(self) -> Iterator[Sample]:
        yield Sample(UPTIME, 1.5)


@pytest.fixture
def patient() -> Patient:
    return Patient()


@pytest.fixture
def server(patient: Patient) -> Iterator[HealthServer]:
    server = HealthServer("127.0.0.1", 0, patient.health, patient.ready, patient.samples)
    yield server
    server.close()


def get(server: HealthServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_is_200_while_all_is_well_and_503_with_the_reason_when_not(
    server: HealthServer, patient: Patient
) -> None:
    assert get(server, "/health") == (200, json.dumps({"status": "ok"}))
    patient.well = False
    assert get(server, "/health") == (503, json.dumps({"status": "silent"}))


def test_a_probe_that_hangs_up_before_the_answer_leaves_no_traceback(
    server: HealthServer, patient: Patient, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, hung_up = threading.Event(), threading.Event()
    before = set(threading.enumerate())

    def answer_late() -> tuple[bool, dict[str, Any]]:
        asked.set()
        hung_up.wait(SECONDS)
        return True, {}

    monkeypatch.setattr(patient, "late", answer_late)
    with socket.create_connection(("127.0.0.1", server.port)) as probe:
        probe.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert asked.wait(SECONDS)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends by a reset
    hung_up.set()
    until(lambda: set(threading.enumerate()) <= before, "the end of the request")
    assert capfd.readouterr().err == ""


def test_a_process_can_be_well_and_not_ready(server: HealthServer) -> None:
    assert get(server, "/health")[0] == 200
    assert get(server, "/ready") == (503, json.dumps({"lacks": ["broker: away"]}))


def test_metrics_are_served_in_prometheus_text_format(server: HealthServer) -> None:
    helped = "# HELP fedmq_uptime_seconds Seconds since the process started.\n"
    numbers = "# TYPE fedmq_uptime_seconds gauge\nfedmq_uptime_seconds 1.5\n"
    assert get(server, "/metrics") == (200, helped + numbers)


def test_any_other_path_is_not_found(server: HealthServer) -> None:
    assert get(server, "/secrets")[0] == 404


def test_a_taken_port_is_a_setting_to_mend(server: HealthServer, patient: Patient) -> None:
    with pytest.raises(ConfigError, match="FEDN_HEALTH_PORT"):
        HealthServer("127.0.0.1", server.port, patient.health, patient.ready, patient.samples)


def test_samples_of_one_family_share_help_and_type_and_label_values_are_escaped() -> None:
    text = exposition(
        [
            Sample(RECEIVED, 2, {"kind": "update"}),
            Sample(UNSETTLED, 3),
            Sample(RECEIVED, 1, {"kind": 'a "b"\\\n'}),
        ]
    )

    assert text == (
        "# HELP fedmq_messages_received_total Messages received.\n"
        "# TYPE fedmq_messages_received_total counter\n"
        'fedmq_messages_received_total{kind="update"} 2\n'
        'fedmq_messages_received_total{kind="a \\"b\\"\\\\\\n"} 1\n'
        "# HELP fedmq_unsettled_messages Messages that were received and are not acknowledged yet.\n"
        "# TYPE fedmq_unsettled_messages gauge\n"
        "fedmq_unsettled_messages 3\n"
    )


def test_half_open_connections_cost_a_bounded_number_of_threads_and_no_probe(server: HealthServer) -> None:
    before = threading.active_count()
    held = []
    try:
        for _ in range(3 * MOST_CONNECTIONS):
            held.append(socket.create_connection(("127.0.0.1", server.port)))
            held[-1].sendall(b"GET /health HT")
        assert get(server, "/health")[0] == 200
        until(lambda: threading.active_count() - before <= MOST_CONNECTIONS, "threads of ended connections are gone")
    finally:
        for each in held:
            each.close()


def test_a_request_that_stands_still_is_ended(
    patient: Patient, server: HealthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "SILENT_SECONDS", 0.1)
    quick = HealthServer("127.0.0.1", 0, patient.health, patient.ready, patient.samples)
    try:
        with socket.create_connection(("127.0.0.1", quick.port), SECONDS) as connection:
            connection.sendall(b"GET /health HT")
            assert connection.recv(1) == b""
    finally:
        quick.close()


def test_metrics_beyond_this_machine_need_a_token_and_probes_none(patient: Patient) -> None:
    access = Access(metrics_token="a-token-of-prometheus", is_local=False)
    server = HealthServer("127.0.0.1", 0, patient.health, patient.ready, patient.samples, access)
    try:
        assert get(server, "/health")[0] == 200
        assert get(server, "/ready?verbose")[0] == 503
        status, words = get(server, "/metrics")
        assert status == 401 and "FEDN_HEALTH_TOKEN" in words
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/metrics", headers={"Authorization": "Bearer a-token-of-prometheus"}
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "fedmq_uptime_seconds" in answer.read().decode()
    finally:
        server.close()


def test_a_name_that_leads_here_by_rebinding_reads_nothing(server: HealthServer) -> None:
    for path in ("/health", "/ready", "/metrics"):
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=SECONDS)
        with caught.value as answer:
            assert answer.code == 421


def test_a_request_that_arrives_byte_by_byte_is_ended(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte began the time of silence again, and so the connection was open for ever."""
    monkeypatch.setattr(health, "REQUEST_SECONDS", 0.3, raising=False)
    slow = HealthServer("127.0.0.1", 0, patient.health, patient.ready, patient.samples)
    try:
        with socket.create_connection(("127.0.0.1", slow.port), SECONDS) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nX: ")

            def is_cut() -> bool:
                try:
                    connection.sendall(b"x")
                except OSError:
                    return True
                return False

            until(is_cut, "the connection is closed")
        assert get(slow, "/health")[0] == 200
    finally:
        slow.close()


def test_an_answer_that_takes_longer_than_a_request_may_is_sent(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "REQUEST_SECONDS", 0.1, raising=False)
    ended = threading.Event()

    def answer_late() -> tuple[bool, dict[str, Any]]:
        ended.wait(0.5)
        return True, {}

    monkeypatch.setattr(patient, "late", answer_late)
    slow = HealthServer("127.0.0.1", 0, patient.health, patient.ready, patient.samples)
    try:
        assert get(slow, "/health") == (200, "{}")
    finally:
        slow.close()
