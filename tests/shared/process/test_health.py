"""`/health`, `/ready` and `/metrics` as orchestrators and Prometheus read them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from fedmq.errors import ConfigError
from fedmq.process.health import HealthServer, Sample, exposition


class Patient:
    well = True

    def health(self) -> tuple[bool, dict[str, Any]]:
        return self.well, {"status": "ok" if self.well else "silent"}

    def ready(self) -> tuple[bool, dict[str, Any]]:
        return False, {"lacks": ["broker: away"]}

    def samples(self) -> Iterator[Sample]:
        yield Sample("fedmq_uptime_seconds", 1.5)


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


def test_a_process_can_be_well_and_not_ready(server: HealthServer) -> None:
    assert get(server, "/health")[0] == 200
    assert get(server, "/ready") == (503, json.dumps({"lacks": ["broker: away"]}))


def test_metrics_are_served_in_prometheus_text_format(server: HealthServer) -> None:
    assert get(server, "/metrics") == (200, "# TYPE fedmq_uptime_seconds gauge\nfedmq_uptime_seconds 1.5\n")


def test_any_other_path_is_not_found(server: HealthServer) -> None:
    assert get(server, "/secrets")[0] == 404


def test_a_taken_port_is_a_setting_to_mend(server: HealthServer, patient: Patient) -> None:
    with pytest.raises(ConfigError, match="FEDN_HEALTH_PORT"):
        HealthServer("127.0.0.1", server.port, patient.health, patient.ready, patient.samples)


def test_samples_of_one_name_share_a_type_line_and_label_values_are_escaped() -> None:
    text = exposition(
        [
            Sample("fedmq_messages_total", 2, {"kind": "update"}),
            Sample("fedmq_clients", 3),
            Sample("fedmq_messages_total", 1, {"kind": 'a "b"\\\n'}),
        ]
    )

    assert text == (
        "# TYPE fedmq_messages_total counter\n"
        'fedmq_messages_total{kind="update"} 2\n'
        'fedmq_messages_total{kind="a \\"b\\"\\\\\\n"} 1\n'
        "# TYPE fedmq_clients gauge\n"
        "fedmq_clients 3\n"
    )
