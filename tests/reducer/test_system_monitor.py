"""What a reducer records of queues and stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fedmq.blobs.memory import MemoryBlobs
from fedmq.brokers.base import Depth, Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.errors import Transient
from fedmq.records.sqlite import SqliteRecords
from fedmq.runtime.stalls import Stalls
from fedmq.scheduler import VirtualScheduler
from fedmq_reducer import system_monitor
from fedmq_reducer.system_monitor import FIRST_SECONDS, QUEUE_SECONDS, SystemMonitor
from fedmq_schemas import records as tables
from fedmq_schemas.topology import Topology

SEEN = [Depth("a.reducer.v1", 3, 2, 1)]


class World:
    def __init__(self, depths: Callable[[], Sequence[Depth]] = lambda: SEEN, folder: Path | None = None) -> None:
        self.scheduler, self.records, self.blobs = VirtualScheduler(), SqliteRecords(":memory:"), MemoryBlobs()
        self.stalls = Stalls(self.scheduler.wall)
        self.is_active = True
        self.waits: dict[str, str] = {}
        self.monitor = SystemMonitor(
            self.scheduler,
            self.records,
            self.blobs,
            depths,
            folder=folder,
            is_active=lambda: self.is_active,
            waits=lambda: self.waits,
            stalls=self.stalls,
        )

    def run(self, seconds: float) -> None:
        self.scheduler.run(limit=self.scheduler.now() + seconds)


def test_queues_are_recorded_as_they_are_seen() -> None:
    world = World()
    world.monitor.start()
    world.run(FIRST_SECONDS)
    found = world.records.get(tables.SYSTEM, "queues")
    assert found is not None
    assert found["queues"] == [{"name": "a.reducer.v1", "ready": 3, "unacked": 2, "consumers": 1}]
    assert found["reason"] == ""


def test_a_broker_whose_queues_cant_be_read_is_recorded_with_the_reason() -> None:
    def away() -> Sequence[Depth]:
        raise Transient("the management API does not answer")

    world = World(away)
    world.monitor.look(1.0, {}, with_stores=False)
    found = world.records.get(tables.SYSTEM, "queues")
    assert found is not None and (found["reason"], found["queues"]) == ("the management API does not answer", [])


def test_stores_are_counted_with_the_disk_that_they_lie_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_monitor, "MOST_BLOBS", 2)
    world = World(folder=tmp_path)
    world.blobs.put("models/a", b"12345")
    for name in ("x", "y", "z"):
        world.blobs.put(f"updates/s/1/{name}", b"123")
    world.monitor.look(1.0, {}, with_stores=True)
    found = world.records.get(tables.SYSTEM, "stores")
    assert found is not None
    assert found["stores"] == [
        {"name": "models", "blobs": 1, "bytes": 5, "is_more": False},
        {"name": "updates", "blobs": 2, "bytes": 6, "is_more": True},
    ]
    assert 0 < found["disk"]["free"] <= found["disk"]["total"]


def test_a_standby_records_nothing_until_it_is_active() -> None:
    world = World()
    world.is_active = False
    world.monitor.start()
    world.run(FIRST_SECONDS + 1)
    assert world.records.get(tables.SYSTEM, "queues") is None
    world.is_active = True
    world.run(QUEUE_SECONDS)
    assert world.records.get(tables.SYSTEM, "stores") is not None


def test_where_sessions_wait_is_recorded() -> None:
    world = World()
    world.waits = {"s": "synchronous:31 > train:42 waits for Answered"}
    world.monitor.start()
    world.run(FIRST_SECONDS)
    found = world.records.get(tables.SYSTEM, "sessions")
    assert found is not None and found["waits"] == world.waits


def test_after_a_stop_it_looks_no_more() -> None:
    world = World()
    world.monitor.start()
    done: list[bool] = []
    world.monitor.drain(lambda: done.append(True))
    world.run(100.0)
    assert done == [True] and world.records.get(tables.SYSTEM, "queues") is None


def test_the_memory_brokers_queues_are_seen_with_what_is_held() -> None:
    scheduler = VirtualScheduler()
    broker, topology = MemoryBroker(scheduler), Topology("a")
    connection = broker.connect("reducer")
    connection.declare(topology.dead())
    connection.declare(topology.reducer())
    connection.consume(topology.reducer().name, 1, lambda delivery: None)
    for number in range(3):
        connection.publish(Outgoing(topology.exchange("control"), "control.start", b"x", str(number)))
    scheduler.settle()
    assert broker.depths() == [Depth(topology.dead().name, 0, 0, 0), Depth(topology.reducer().name, 2, 1, 1)]


def test_a_stall_is_recorded_at_its_beginning_and_end_by_the_reducer_that_decides() -> None:
    world = World()

    def recorded() -> list[str] | None:
        world.monitor.record_stalls()
        world.scheduler.settle()
        found = world.records.get(tables.SYSTEM, "stalls")
        return [stall["reason"] for stall in found["stalls"]] if found is not None else None

    world.stalls.note("a", "blob_store", "it is full", "Aggregate")
    world.scheduler.later(6.0, lambda: None)
    world.scheduler.run()
    world.is_active = False
    assert recorded() is None
    world.is_active = True
    assert recorded() == ["it is full"]
    world.stalls.end("a")
    assert recorded() == []
