"""Two processes with one client's name, against a real reducer and combiner: it is recorded, and one of them continues."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmq.runtime.actor import Observe
from fedmq_client import Client
from fedmq_client.pool.inline import InlinePool
from fedmq_client.role.actor import client_actor
from fedmq_client.role.model_cache import Models
from fedmq_client.role.site_log import SiteLog
from fedmq_client.role.store import MemoryStore
from fedmq_combiner.actor import combiner_actor
from fedmq_reducer.actor import reducer_actor
from fedmq_reducer.recorder import Recorder
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Attach
from fedmq_schemas.topology import Topology
from support.world import World

ALLIANCE = Topology("twice")
PRESENCE = 10.0


class Doubled:
    """An alliance, and processes of the client `c1`. `ended`: the instances that were to end."""

    def __init__(self) -> None:
        self.world = World()
        self.ended: dict[str, float] = {}
        stores: dict[str, Any] = {"blobs": self.world.blobs, "scratch": Path("unused"), "presence": PRESENCE}
        records = self.world.records
        self._run("reducer", lambda common: reducer_actor("r", records=records, partitions=None, **stores, **common))
        self._run("k1", lambda common: combiner_actor("k1", **stores, **common))
        process = self.world.process("recorder")
        recorder = Recorder(process.connect("recorder"), process, ALLIANCE, records, offload=False)
        process.run(recorder.start)

    def _run(self, name: str, make: Callable[[dict[str, Any]], Any], observe: Observe | None = None) -> None:
        process = self.world.process(name)
        common = {"topology": ALLIANCE, "scheduler": process, "new_id": self.world.new_id, "observe": observe}
        process.run(make({"connection": process.connect(name), **common}).start)

    def start_client(self, instance: str) -> None:
        attach, now = Attach(instance=instance), self.world.scheduler.now
        log = SiteLog("c1", attach, "twice", now, lambda _: self._end(instance))

        def make(common: dict[str, Any]) -> Any:
            parts: dict[str, Any] = {"pool": InlinePool(), "store": MemoryStore(), "models": Models(None)}
            return client_actor(Client("c1"), attach, Path("unused"), **parts, **common)

        self._run("c1", make, log)

    def _end(self, instance: str) -> None:
        self.ended.setdefault(instance, self.world.scheduler.now())

    def run(self, seconds: float) -> None:
        self.world.scheduler.run(limit=self.world.scheduler.now() + seconds)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [dict(each) for each in self.world.records.inner.find(tables.EVENTS, {"name": name})]


@pytest.mark.parametrize("apart", [0.0, 0.3, 7.0, 19.5])
def test_a_second_process_is_recorded_and_told_to_end_within_30_s(apart: float) -> None:
    alliance = Doubled()
    alliance.run(1.0)
    alliance.start_client("first")
    alliance.run(10.0 + apart)
    alliance.start_client("second")
    began = alliance.world.scheduler.now()
    alliance.run(30.0)
    [event] = alliance.events("client.duplicate")
    assert event["client"] == "c1" and event["data"]["instances"] == ["first", "second"]
    assert list(alliance.ended) == ["second"]
    assert alliance.ended["second"] - began <= 30.0
    alliance.world.close()


def test_a_client_that_was_killed_and_started_again_is_no_duplicate() -> None:
    alliance = Doubled()
    alliance.run(1.0)
    alliance.start_client("first")
    alliance.run(12.0)
    [process] = alliance.world.alive("c1")
    process.kill()
    alliance.start_client("second")
    alliance.run(120.0)
    assert alliance.events("client.duplicate") == [] and alliance.ended == {}
    alliance.world.close()
