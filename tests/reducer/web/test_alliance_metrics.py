"""What `/metrics` of the REST API shows of records: the open round, members by state, dead letters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.topology import Topology

from .test_stalls_shown import Api


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def values(api: Api, name: str) -> dict[str, float]:
    """Returns the numbers of a gauge by the value of its only label; of one without a label under ``."""
    found = text_string_to_metric_families(api.text("/metrics"))
    samples = [sample for family in found if family.name == name for sample in family.samples]
    return {"".join(sample.labels.values()): sample.value for sample in samples}


def put_open_round(api: Api, session: str, clients: list[str], at: float) -> None:
    document: dict[str, Any] = {"session": session, "state": "running", "policy": {"timeout": 60.0}}
    api.records.put(tables.SESSIONS, session, document)
    plans = [{"part": 0, "combiner": "k1", "clients": clients, "voided": False}]
    attempt = {"session": session, "round": 1, "attempt": 1, "plans": plans, "created_at": at}
    api.records.put(tables.ATTEMPTS, keys.attempt_record(session, 1, 1), attempt)


def test_an_open_round_has_a_deadline_and_counts_the_clients_that_it_waits_for(api: Api) -> None:
    put_open_round(api, "s", ["a", "b", "c"], at=1000.0)
    answer = {"name": "update.accepted", "session": "s", "round": 1, "client": "a", "at": 1001.0, "data": {}}
    api.records.put(tables.EVENTS, "e1", answer)
    assert values(api, "fedmq_round_started_timestamp_seconds") == {"s": 1000.0}
    assert values(api, "fedmq_round_deadline_timestamp_seconds") == {"s": 1060.0}
    assert values(api, "fedmq_round_clients") == {"s": 3}
    assert values(api, "fedmq_round_waiting_clients") == {"s": 2}


def test_a_committed_round_is_no_open_one(api: Api) -> None:
    put_open_round(api, "s", ["a"], at=1000.0)
    api.records.put(tables.ROUNDS, keys.round_record("s", 1), {"session": "s", "round": 1})
    assert values(api, "fedmq_round_deadline_timestamp_seconds") == {}
    assert values(api, "fedmq_rounds") == {"": 1}


def test_clients_and_combiners_that_are_away_are_counted(api: Api) -> None:
    for client, state in (("a", "present"), ("b", "away"), ("c", "away")):
        api.records.put(tables.CLIENTS, client, {"client": client, "state": state})
    api.records.put(tables.COMBINERS, "k", {"combiner": "k", "state": "away"})
    assert values(api, "fedmq_clients") == {"present": 1, "away": 2}
    assert values(api, "fedmq_combiners") == {"present": 0, "away": 1}


def test_dead_letters_are_those_that_the_reducer_measured_last(api: Api) -> None:
    assert values(api, "fedmq_dead_letters") == {}
    dead, other = Topology("a").dead().name, Topology("a").reducer().name
    queues = [{"name": name, "ready": ready, "unacked": 0, "consumers": 0} for name, ready in ((dead, 3), (other, 9))]
    api.records.put(tables.SYSTEM, "queues", {"what": "queues", "at": 1000.0, "reason": "", "queues": queues})
    assert values(api, "fedmq_dead_letters") == {"": 3}
