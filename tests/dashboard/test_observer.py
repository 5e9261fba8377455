"""News from the broker, and from records that another process writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dashboard.events import event
from fedmq import codec
from fedmq.brokers.base import Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.errors import Transient
from fedmq.process.lock import FOLDER_LOCK, try_lock
from fedmq.records.base import Document
from fedmq.records.sqlite import SqliteRecords
from fedmq.scheduler import VirtualScheduler
from fedmq_dashboard import observer
from fedmq_dashboard.live import Live
from fedmq_dashboard.observer import CATCH_UP_SECONDS, Observer, Tail
from fedmq_dashboard.process import interruption
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
    reported = Event(name="round.planned", session="s", round=1, data=data)
    return codec.encode(envelope.model_dump(), reported.model_dump())


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
    put_event(world.records, "client.joined", 5.0, None, "c")
    world.scheduler.run(limit=world.scheduler.now() + CATCH_UP_SECONDS + 1)
    assert world.live.revisions["any"] == 1


# -- records that another process writes ------------------------------------------------------------------------------


def put_event(records: SqliteRecords, *given: Any, **more: Any) -> None:
    document = event(*given, **more)
    records.put(tables.EVENTS, document["id"], document)


def start_round(records: SqliteRecords, at: float) -> None:
    records.put(tables.SESSIONS, "s", {"session": "s", "state": "running", "created_at": 1.0})
    records.put(tables.ATTEMPTS, "s/1/1", {"session": "s", "round": 1, "attempt": 1, "created_at": at})
    put_event(records, "round.planned", at, attempt=1, clients=2, combiners=1, timeout=60.0)


def test_the_first_look_takes_in_the_open_round_from_its_beginning() -> None:
    records, live = SqliteRecords(":memory:"), Live()
    put_event(records, "client.joined", 10.0)
    start_round(records, 1000.0)
    put_event(records, "update.accepted", 1001.0, client="a")
    for number in range(20):
        put_event(records, "client.joined", 2000.0 + number)
    Tail(records, live).look()
    running = live.open_round("s")
    assert running is not None and running.answers == {"a": "accepted"}


def test_later_looks_take_in_what_is_new_also_if_its_clock_is_a_little_behind() -> None:
    records, live = SqliteRecords(":memory:"), Live()
    start_round(records, 1000.0)
    tail = Tail(records, live)
    tail.look()
    put_event(records, "client.joined", 1010.0)
    tail.look()
    put_event(records, "update.accepted", 1009.0, client="late")
    tail.look()
    running = live.open_round("s")
    assert running is not None and running.answers == {"late": "accepted"}


def test_many_events_come_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer, "PAGE", 3)
    records, live = SqliteRecords(":memory:"), Live()
    start_round(records, 1000.0)
    for number in range(10):
        put_event(records, "update.accepted", 1001.0 + number, client=f"c{number}")
    Tail(records, live).look()
    running = live.open_round("s")
    assert running is not None and len(running.answers) == 10


def test_records_that_are_away_are_told_and_asked_again() -> None:
    class Away(SqliteRecords):
        def find(self, table: str, where: Mapping[str, Any] | None = None, **options: Any) -> Sequence[Document]:
            raise Transient("the disk is busy")

    live = Live()
    tail = Tail(Away(":memory:"), live, period=0.001)
    tail.start()
    assert live.wait({"any": 0, "rounds": 0}, 30) is not None
    tail.stop()
    assert live.trouble == "The records can't be read now: the disk is busy"


def test_an_open_session_of_a_folder_in_which_no_sandbox_runs_was_interrupted(tmp_path: Path) -> None:
    records, live = SqliteRecords(":memory:"), Live()
    start_round(records, 1.0)
    tail = Tail(records, live, period=0.001, remark=lambda: interruption(records, tmp_path))
    tail.start()
    assert live.wait({"any": 0, "rounds": 0}, 30) is not None
    tail.stop()
    assert live.trouble.startswith("Session s was interrupted: its sandbox does not run now")
    assert live.trouble.endswith(f"fedmq status --state-dir {tmp_path}")
    with (tmp_path / FOLDER_LOCK).open("w") as file:
        assert try_lock(file)
        assert interruption(records, tmp_path) == ""
    records.update(tables.SESSIONS, "s", {"state": "finished"})
    assert interruption(records, tmp_path) == ""
