"""News from the broker, as any subscriber gets it."""

from __future__ import annotations

from typing import Any

from fedmq import codec
from fedmq.brokers.base import Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.records.sqlite import SqliteRecords
from fedmq.scheduler import VirtualScheduler
from fedmq_dashboard.live import Live
from fedmq_dashboard.observer import CATCH_UP_SECONDS, Observer
from fedmq_dashboard.sources import Tail
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Envelope, Event
from fedmq_schemas.topology import Topology, event_key

ALLIANCE = Topology("a")


class World:
    def __init__(self) -> None:
        self.scheduler = VirtualScheduler()
        self.broker = MemoryBroker(self.scheduler)
        self.records, self.live = SqliteRecords(":memory:"), Live()
        tail = Tail(self.records, self.live)
        self.observer = Observer(self.broker.connect("dashboard"), self.scheduler, ALLIANCE, self.live, tail, "d")
        self.observer.start()
        self.scheduler.settle()

    def tell(self, body: bytes) -> None:
        outgoing = Outgoing(ALLIANCE.exchange("event"), event_key("s", "round.planned"), body, "id")
        self.broker.connect("reducer").publish(outgoing)
        self.scheduler.settle()


def planned() -> bytes:
    envelope = Envelope(kind="event", id="p1", alliance="a", sender="reducer", sent_at=100.0)
    data: dict[str, Any] = {"attempt": 1, "clients": 2, "combiners": 1, "timeout": 60.0}
    event = Event(name="round.planned", session="s", round=1, data=data)
    return codec.encode(envelope.model_dump(), event.model_dump())


def test_an_event_is_shown_when_it_is_told() -> None:
    world = World()
    world.tell(planned())
    running = world.live.open_round("s")
    assert running is not None and running.planned_at == 100.0


def test_what_is_no_event_is_passed_over() -> None:
    world = World()
    world.tell(b"rubbish")
    assert world.live.revisions == {"any": 0, "rounds": 0}
    assert world.broker.depths()[0].unacked == 0


def test_what_was_missed_is_taken_from_the_records() -> None:
    world = World()
    document: dict[str, Any] = {
        "id": "e1",
        "name": "client.joined",
        "session": None,
        "round": None,
        "client": "c",
        "at": 5.0,
        "data": {},
    }
    world.records.put(tables.EVENTS, "e1", document)
    world.scheduler.run(limit=world.scheduler.now() + CATCH_UP_SECONDS + 1)
    assert world.live.revisions["any"] == 1


def test_it_leaves_without_holding_anybody_up() -> None:
    world = World()
    done: list[bool] = []
    world.observer.drain(lambda: done.append(True))
    world.observer.leave(1.0)
    assert done == [True]
