"""The contract of records in MongoDB, beyond the port: on a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contracts.stores import open_mongo, patiently
from fedmq.errors import ConfigError, Transient
from fedmq.lease import HeldLease
from fedmq.records.base import Lease
from fedmq.records.mongo import MongoRecords
from support.clock import Clock
from support.servers.mongo import MongoServer


@pytest.mark.system
def test_the_store_is_transient_while_its_server_is_down_and_works_again_after(
    mongo_server: MongoServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmq.records.mongo.SELECTION_SECONDS", 0.2)
    records = open_mongo(mongo_server, clock)
    records.put("models", "m", {"a": 1})
    lease = records.acquire("one", 10)
    assert isinstance(lease, Lease)
    mongo_server.kill()
    try:
        calls: list[Callable[[], Any]] = [
            lambda: records.insert("rounds", "s/1", {}),
            lambda: records.put("models", "m", {"a": 2}),
            lambda: records.put_many("models", [("m", {"a": 2})]),
            lambda: records.insert_many("models", [("n", {"a": 2})]),
            lambda: records.update("models", "m", {"a": 2}),
            lambda: records.get("models", "m"),
            lambda: records.find("models"),
            lambda: records.count("models"),
            lambda: records.delete("models", {}),
            lambda: records.acquire("two", 10),
            lambda: records.renew(lease, 10),
        ]
        for call in calls:
            with pytest.raises(Transient, match="MongoDB"):
                call()
    finally:
        mongo_server.start()
    assert patiently(lambda: records.get("models", "m")) == {"a": 1}
    assert records.renew(lease, 10)
    records.close()


@pytest.mark.system
def test_a_lease_that_is_taken_between_reading_and_writing_it_is_noticed(
    mongo_server: MongoServer, clock: Clock
) -> None:
    faster = open_mongo(mongo_server, clock)
    faster.acquire("first", 10)
    held = faster.acquire("faster", 10)
    assert isinstance(held, HeldLease)

    def meddling() -> float:  # the time is read in between
        faster.acquire("faster", 10, held.stamp)
        return clock.now

    slower = MongoRecords(mongo_server.host, mongo_server.port, "test", clock=meddling)
    assert isinstance(slower.acquire("slower", 10, held.stamp), HeldLease)
    assert faster.acquire("faster", 10) == Lease("faster", 2)
    slower.close()
    faster.close()


@pytest.mark.system
def test_a_server_that_takes_no_write_concern_is_warned_of_once(
    mongo_server: MongoServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    records = open_mongo(mongo_server, clock)
    records.put("models", "a", {})
    records.put("models", "b", {})
    assert [message for message in caplog.messages if "write concern" in message] == [
        "MongoDB at 127.0.0.1 accepts no write concern: its default decides which writes survive a crash"
    ]
    records.close()


def test_account_and_members_reach_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = []
    databases: list[str] = []

    class Client:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            calls.append((arguments, options))

        def __getitem__(self, name: str) -> None:
            databases.append(name)

    monkeypatch.setattr("fedmq.records.mongo.MongoClient", Client)
    records = MongoRecords("a.example:1,b.example", 27018, "alliance", user="fedn_admin", password="hidden: @/%")
    [(arguments, options)] = calls
    assert arguments == (["a.example:1", "b.example"], 27018)
    assert (options["username"], options["password"]) == ("fedn_admin", "hidden: @/%")
    assert databases == ["alliance"]
    assert "hidden" not in repr(records)


def test_an_address_that_can_not_be_is_a_fault_of_the_settings() -> None:
    with pytest.raises(ConfigError, match="address"):
        MongoRecords("host:port", 1, "alliance")
