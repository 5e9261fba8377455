"""The recorder: each event becomes a record of its own, and its message is settled once, when all of them are durable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from fedmq import codec
from fedmq.brokers.base import Delivery, Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.brokers.memory.connection import MemoryConnection
from fedmq.errors import Refused, Transient
from fedmq.records.sqlite import SqliteRecords
from fedmq.runtime.stalls import Stalls
from fedmq.runtime.turns import BURST, SHARE
from fedmq.scheduler import VirtualScheduler
from fedmq_reducer.recorder import BATCH, MOST_AHEAD, PREFETCH, Recorder
from fedmq_schemas.limits import MOST_EVENTS
from fedmq_schemas.messages import BatchedEvent, Body, Envelope, Event, Events
from fedmq_schemas.records import EVENTS
from fedmq_schemas.topology import Topology, event_key

ALLIANCE = Topology("a")
NAME = "update.accepted"


class Store(SqliteRecords):
    """Counts its writes, meets the errors that it is given, refuses `poison`; `meanwhile` happens while it writes."""

    def __init__(self) -> None:
        super().__init__(":memory:", clock=lambda: 0.0)
        self.writes: list[list[str]] = []
        self.errors: list[Exception] = []
        self.meanwhile: Callable[[], None] | None = None
        self.poison = ""

    def insert_many(self, table: str, items: Iterable[tuple[str, Mapping[str, Any]]], fence: int | None = None) -> None:
        rows = list(items)
        self.writes.append([key for key, _ in rows])
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            happens()
        if self.errors:
            raise self.errors.pop(0)
        if self.poison in self.writes[-1]:
            raise Refused(f"{self.poison} is refused")
        super().insert_many(table, rows, fence)


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, offload: bool = False, servers: str | None = None) -> None:
        self.scheduler = VirtualScheduler()
        self.stalls = Stalls(self.scheduler.wall)
        self.broker = MemoryBroker(self.scheduler)
        self.records = Store()
        self.acked: list[int] = []
        self.dead: list[Delivery] = []
        self.connection = self.broker.connect("recorder")
        ack = self.connection.ack

        def noted(tags: list[int]) -> None:
            self.acked += tags
            ack(tags)

        monkeypatch.setattr(self.connection, "ack", noted)
        self.recorder = Recorder(
            self.connection,
            self.scheduler,
            ALLIANCE,
            self.records,
            offload=offload,
            shared_account=servers,
            stalls=self.stalls,
        )
        self.recorder.start()
        undertaker: MemoryConnection = self.broker.connect("undertaker")
        undertaker.declare(ALLIANCE.dead())
        undertaker.consume(ALLIANCE.dead().name, 0, self.dead.append)
        self.scheduler.settle()

    def publish(
        self,
        body: Body,
        message_id: str = "m1",
        cause: str | None = None,
        *,
        sender: str = "k1",
        key: str = event_key("s1", NAME),
        sent_at: float = 7.0,
    ) -> None:
        envelope = Envelope(kind=body.kind, id=message_id, cause=cause, alliance="a", sender=sender, sent_at=sent_at)
        data = codec.encode(envelope.model_dump(), body.model_dump())
        self.broker.connect(sender).publish(Outgoing(ALLIANCE.exchange("event"), key, data, message_id))

    def recorded(self) -> dict[str, dict[str, Any]]:
        self.scheduler.run()
        return {document["id"]: dict(document) for document in self.records.find(EVENTS, {})}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def event(number: int, name: str = NAME) -> BatchedEvent:
    return BatchedEvent(
        id=f"e{number}",
        cause=f"because-{number}",
        name=name,
        session="s1",
        round=2,
        client=f"c{number}",
        combiner="k1",
        data={"weight": number},
    )


def events(*numbers: int) -> Events:
    return Events(events=tuple(event(number) for number in numbers))


def test_each_event_of_a_message_is_recorded_under_its_own_id_and_cause(world: World) -> None:
    world.publish(events(1, 2, 3), "the message")
    found = world.recorded()
    assert sorted(found) == ["e1", "e2", "e3"]
    assert found["e2"] == {
        "id": "e2",
        "cause": "because-2",
        "name": NAME,
        "session": "s1",
        "round": 2,
        "client": "c2",
        "combiner": "k1",
        "at": 7.0,
        "sender": "k1",
        "data": {"weight": 2},
    }
    assert {document["cause"] for document in found.values()} == {"because-1", "because-2", "because-3"}
    assert world.records.writes == [["e1", "e2", "e3"]]
    assert world.acked == [1]


def test_an_event_alone_is_recorded_under_its_messages_id_and_cause(world: World) -> None:
    world.publish(Event(name=NAME, session="s1", client="c1"), "alone", "because")
    assert {key: document["cause"] for key, document in world.recorded().items()} == {"alone": "because"}


def test_an_event_that_is_published_again_alone_or_with_others_is_kept_once_as_it_was_first(world: World) -> None:
    world.publish(events(1, 2), "first")
    world.publish(events(2, 3), "second")
    world.publish(Event(name=NAME, session="s1", client="c3"), "e3")
    found = world.recorded()
    assert sorted(found) == ["e1", "e2", "e3"]
    world.publish(Event(name=NAME, session="s1", client="another"), "e3", "another cause")
    assert world.recorded() == found
    assert (found["e3"]["cause"], found["e3"]["data"]) == ("because-3", {"weight": 3})
    assert sorted(world.acked) == [1, 2, 3, 4]


def test_a_message_is_acked_after_all_its_events_are_durable_and_only_then(world: World) -> None:
    world.records.errors = [Transient("away"), Transient("away")]
    world.publish(events(1, 2))
    world.scheduler.run(lambda: len(world.records.writes) == 1)
    world.scheduler.settle()
    assert world.acked == []
    world.publish(events(3, 4))
    assert sorted(world.recorded()) == ["e1", "e2", "e3", "e4"]
    assert world.acked == [1, 2]
    assert world.records.writes[-1] == ["e1", "e2", "e3", "e4"]


def test_events_that_the_records_refuse_for_five_seconds_are_a_stall_until_they_are_recorded(world: World) -> None:
    world.records.errors = [Transient("refused with code 14031", store="records")] * 7
    world.publish(events(1, 2))
    world.scheduler.run(lambda: bool(world.stalls.current()))
    [stall] = world.stalls.current()
    assert (stall.store, stall.reason, stall.effect) == ("records", "refused with code 14031", "RecordEvents")
    assert 5.0 <= world.scheduler.wall() - stall.since < 6.0
    assert sorted(world.recorded()) == ["e1", "e2"]
    assert world.stalls.current() == []
    assert world.stalls.retries == {("RecordEvents", "records"): 7}


def test_what_came_while_a_server_was_away_is_written_with_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, offload=True)
    world.records.errors = [Transient("away")]
    world.records.meanwhile = lambda: world.publish(events(3, 4), "second")
    world.publish(events(1, 2), "first")
    assert sorted(world.recorded()) == ["e1", "e2", "e3", "e4"]
    assert world.records.writes == [["e1", "e2"], ["e1", "e2", "e3", "e4"]]
    assert world.acked == [1, 2]


def test_a_message_whose_events_can_not_be_recorded_is_one_dead_letter(world: World) -> None:
    world.records.errors = [Refused("no room")] * 3  # together, and each alone
    world.publish(events(1, 2))
    assert world.recorded() == {} and world.acked == []
    assert [letter.headers["x-fedmq-reason"] for letter in world.dead] == ["no room"]


def test_neighbours_of_an_event_that_is_refused_are_recorded(world: World) -> None:
    """One client's odd number cost all events that arrived within 0.1 s of it."""
    world.records.poison = "e3"
    world.publish(events(1), "before")
    world.publish(events(2, 3, 4), "with it")
    world.publish(events(5), "after")
    assert sorted(world.recorded()) == ["e1", "e2", "e4", "e5"]
    assert sorted(world.acked) == [1, 3]
    assert [(letter.message_id, letter.headers["x-fedmq-reason"]) for letter in world.dead] == [
        ("with it", "e3 is refused")
    ]


def test_a_store_that_fails_while_events_are_written_one_by_one_gets_them_again(world: World) -> None:
    world.records.poison = "e2"
    world.records.errors = [Refused("together"), Transient("away")]
    world.publish(events(1, 2, 3))
    assert sorted(world.recorded()) == ["e1", "e3"]
    assert len(world.dead) == 1 and world.acked == []


def test_events_that_gathered_while_others_were_refused_are_recorded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stood still until another event arrived."""
    world = World(monkeypatch, offload=True)
    world.records.poison = "e1"

    def meanwhile() -> None:
        world.publish(events(*range(2, 2 + MOST_EVENTS)), "second")
        world.publish(events(*range(2 + MOST_EVENTS, 2 + BATCH)), "third")

    world.records.meanwhile = meanwhile
    world.publish(events(1), "first")
    assert len(world.recorded()) == BATCH
    assert world.acked == [2, 3] and [letter.message_id for letter in world.dead] == ["first"]


def test_a_bug_of_the_store_is_a_dead_letter_and_the_recorder_goes_on(world: World) -> None:
    world.records.errors = [ZeroDivisionError("bug")]
    world.publish(events(1))
    assert world.recorded() == {}
    world.publish(events(2))
    assert list(world.recorded()) == ["e2"]
    assert [letter.headers["x-fedmq-reason"] for letter in world.dead] == ["ZeroDivisionError('bug')"]


def test_a_flood_of_one_account_costs_a_few_dead_letters_and_delays_nobodys_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, servers="k1")
    for number in range(3_000):
        refused = Event(name="message.refused", client="c1", data={"reason": "x"})
        world.publish(refused, f"c1-{number}", sender="c1", key=event_key(None, "message.refused"))
    world.publish(events(1), "of the servers")
    world.scheduler.run(limit=1.0)
    assert "e1" in {document["id"] for document in world.records.find(EVENTS, {})}
    found = [key for key in world.recorded() if key.startswith("c1:c1-")]
    assert len(found) == BURST + PREFETCH / SHARE
    [letter] = world.dead
    assert "c1 publishes too much" in str(letter.headers["x-fedmq-reason"])
    assert len(world.acked) == 3_000


def test_an_event_of_a_client_whose_clock_is_far_ahead_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, servers="k1")
    now = world.scheduler.wall()
    key = event_key(None, "actor.error")
    for sender, ahead in (("c1", MOST_AHEAD - 1.0), ("c2", MOST_AHEAD + 1.0), ("k1", MOST_AHEAD + 1.0)):
        world.publish(Event(name="actor.error", client=sender), sender, sender=sender, key=key, sent_at=now + ahead)
    assert {document["client"] for document in world.recorded().values()} == {"c1", "k1"}
    [letter] = world.dead
    assert "its time lies 301 s ahead of the reducer's" in str(letter.headers["x-fedmq-reason"])


def test_of_a_message_with_one_event_that_does_not_fit_none_is_recorded(world: World) -> None:
    world.publish(Events(events=(event(1), event(2, "round.planned"))))
    world.publish(events(3), "sound")
    assert sorted(world.recorded()) == ["e3"]
    [letter] = world.dead
    assert "an event round.planned of session s1 was published to" in str(letter.headers["x-fedmq-reason"])


def test_a_batch_is_full_by_its_events_and_not_by_its_messages(world: World) -> None:
    half = BATCH // 2
    world.publish(events(*range(half)), "first")
    world.scheduler.settle()
    assert world.records.writes == []
    world.publish(events(*range(half, BATCH)), "second")
    world.scheduler.settle()
    assert [len(keys) for keys in world.records.writes] == [BATCH]
    assert world.acked == [1, 2]


def test_a_recorder_that_stops_writes_the_events_that_it_has_and_acknowledges_them(world: World) -> None:
    world.publish(events(1, 2))
    world.scheduler.settle()
    assert world.records.writes == []
    world.recorder.stop()
    assert world.records.writes == [["e1", "e2"]]
    assert world.acked == [1]


def test_an_event_without_its_account_is_a_dead_letter_where_clients_have_accounts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, servers="k1")
    exchanges = world.broker.switchboard
    route: Any = exchanges.route
    with monkeypatch.context() as patch:
        patch.setattr(exchanges, "route", lambda message, _, headers: route(message, None, headers))
        world.publish(events(1), "unsigned")
    world.publish(events(2), "signed")
    assert list(world.recorded()) == ["e2"]
    [letter] = world.dead
    assert letter.message_id == "unsigned"
    assert letter.headers["x-fedmq-reason"] == "an event without user_id: its sender is unknown"
