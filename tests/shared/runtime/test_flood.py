"""One account floods an inbox: the others' messages are handled at once, and the flood costs what one sender may cost."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import pytest

from fedmq import codec
from fedmq.brokers.base import Delivery, Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.runtime.actor import Actor
from fedmq.runtime.effects import Ack, CoreEvent, Effect, Fired, Now, Received, Resubscribe, Started, StartTimer
from fedmq.runtime.event_stream import decode_events
from fedmq.runtime.turns import BURST, PRIORITY, RATE, FairTurns
from fedmq.scheduler import VirtualScheduler
from fedmq_schemas.messages import ClientPresence, Event
from fedmq_schemas.role_accounts import server_accounts
from fedmq_schemas.topology import Topology, update_key

ALLIANCE = Topology("a")
INBOX = ALLIANCE.combiner("k1")
SERVERS, HOSTILE, HONEST = "servers", "c0", ("c1", "c2", "c3")
PREFETCH = 400


class Core:
    """Acknowledges each message. At `resubscribe_at`, it gives back all messages that it holds."""

    def __init__(self, resubscribe_at: float | None = None) -> None:
        self.received: list[tuple[str, float]] = []
        self._resubscribe_at = resubscribe_at

    def handle(self, event: CoreEvent, now: Now) -> Sequence[Effect]:
        match event:
            case Started() if self._resubscribe_at is not None:
                return [StartTimer("again", self._resubscribe_at)]
            case Fired():
                return [Resubscribe()]
            case Received():
                self.received.append((event.envelope.id, now.seconds))
                return [Ack((event.tag,))]
            case _:
                return ()


class World:
    """A combiner's actor, where the servers have an account of their own, and each client has one."""

    def __init__(self, core: Core) -> None:
        self.scheduler = VirtualScheduler()
        self.broker = MemoryBroker(self.scheduler)
        self.core = core
        self.letters: list[Delivery] = []
        self.events: list[Event] = []
        self.connection = self.broker.connect(SERVERS)
        self.actor = Actor(
            "k1",
            core,
            self.connection,
            self.scheduler,
            ALLIANCE,
            inbox=INBOX,
            new_id=map(str, range(1_000_000)).__next__,
            prefetch=PREFETCH,
            shared_account=SERVERS,
        )
        observer = self.broker.connect("observer")
        for queue, receive in ((ALLIANCE.dead(), self.letters.append), (ALLIANCE.records(), self._note)):
            observer.declare(queue)
            observer.consume(queue.name, 0, receive)
        self.links = {name: self.broker.connect(name) for name in (HOSTILE, *HONEST)}
        self.actor.start()

    def _note(self, delivery: Delivery) -> None:
        self.events.extend(decode_events(delivery, "a")[1])

    def publish(self, at: float, account: str, number: int, stated: str | None = None) -> None:
        name = stated or account
        message_id = f"{account}-{number}"
        envelope = {"kind": "client_presence", "id": message_id, "alliance": "a", "sender": name, "sent_at": 0.0}
        data = codec.encode(envelope, codec.fields_of(ClientPresence()))
        message = Outgoing(ALLIANCE.exchange("update"), update_key("k1", name), data, message_id)
        self.scheduler.later(at, lambda: self.links[account].publish(message))

    def flood(self, a_second: float, seconds: float, stated: str | None = None) -> int:
        count = int(a_second * seconds)
        for number in range(count):
            self.publish(number / a_second, HOSTILE, number, stated)
        return count

    def delays(self, seconds: int) -> dict[str, float]:
        """Each honest client publishes once a second. Returns how long each message waited."""
        sent = {}
        for second in range(seconds):
            for name in HONEST:
                self.publish(second + 0.5, name, second)
                sent[f"{name}-{second}"] = second + 0.5
        self.run(seconds + 1.0)
        return {key: at - sent[key] for key, at in self.core.received if key in sent}

    def run(self, until: float) -> None:
        self.scheduler.later(until - self.scheduler.now(), lambda: None)
        self.scheduler.run(limit=until)

    @property
    def handled(self) -> Counter[str]:
        return Counter(key.partition("-")[0] for key, _ in self.core.received)

    @property
    def reasons(self) -> list[str]:
        return [event.data["reason"] for event in self.events if event.name == "message.refused"]


@pytest.fixture
def world() -> World:
    return World(Core())


def test_a_flood_delays_nobody_and_costs_no_more_than_one_senders_allowance(world: World) -> None:
    world.flood(300.0, 20.0)
    delays = world.delays(20)
    assert len(delays) == 60 and max(delays.values()) == pytest.approx(0.0)
    assert RATE * 20 <= world.handled[HOSTILE] <= BURST + RATE * 21
    assert world.actor.unsettled <= PREFETCH / 4


def test_of_a_flood_one_message_in_ten_seconds_is_a_dead_letter_and_the_rest_is_a_number(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "fedmq")
    count = world.flood(300.0, 15.0)
    world.run(60.0)
    assert [letter.headers["x-fedmq-sender"] for letter in world.letters] == [HOSTILE] * 2
    reasons = world.reasons
    assert [reason for reason in reasons if "publishes too much: publish at most 20 messages" in reason] == [
        str(letter.headers["x-fedmq-reason"]) for letter in world.letters
    ]
    counted = [int(reason.split()[0]) for reason in reasons if "were turned away in 10 s" in reason]
    assert len(counted) == 2 and sum(counted) + world.handled[HOSTILE] == count
    assert world.actor.unsettled == 0


def test_who_publishes_at_the_advised_rate_loses_nothing(world: World) -> None:
    count = world.flood(RATE, 60.0)
    world.run(62.0)
    assert world.handled[HOSTILE] == count and not world.letters


def test_the_servers_take_no_turns(world: World) -> None:
    world.links[HOSTILE] = world.connection
    world.flood(1_000.0, 2.0, stated="c9")
    world.run(3.0)
    assert world.handled[HOSTILE] == 2_000 and not world.letters


def test_a_flood_in_anothers_name_costs_the_other_nothing(world: World) -> None:
    """The name in a message is anybody's to write; the account is verified."""
    world.flood(300.0, 5.0, stated=HONEST[0])
    delays = world.delays(5)
    assert len(delays) == 15 and max(delays.values()) == pytest.approx(0.0)
    assert world.handled[HOSTILE] == 0


def test_what_waits_when_the_connection_is_restored_is_handled_as_it_is_delivered_again(world: World) -> None:
    count = world.flood(100.0, 2.0)
    world.scheduler.later(1.5, lambda: world.broker.break_connection(world.connection, downtime=1.0))
    world.run(60.0)
    assert len({key for key, _ in world.core.received}) == count
    assert world.handled[HOSTILE] <= count + RATE * 1.0, "only what was handled while the connection was lost, twice"
    assert world.actor.unsettled == 0


def test_what_waits_when_the_core_starts_over_is_handled_once() -> None:
    world = World(Core(resubscribe_at=1.5))
    count = world.flood(100.0, 2.0)
    world.run(60.0)
    assert world.handled[HOSTILE] == len({key for key, _ in world.core.received}) == count
    assert world.actor.unsettled == 0


def test_an_actor_that_drains_handles_no_more_of_what_waits(world: World) -> None:
    world.flood(1_000.0, 0.15)
    world.run(0.2)
    handled = world.handled[HOSTILE]
    world.actor.drain(lambda: None)
    world.run(5.0)
    assert world.handled[HOSTILE] == handled < 150
    world.actor.leave(1.0)
    again: list[Delivery] = []
    world.broker.connect("next").consume(INBOX.name, 0, again.append)
    world.run(6.0)
    assert len(again) == 150 - handled


def test_a_message_with_a_priority_is_refused_when_it_is_its_senders_turn() -> None:
    received, refused = list[int](), list[tuple[int, str]]()
    turns = FairTurns(
        VirtualScheduler(),
        servers=frozenset({SERVERS}),
        prefetch=4_000,
        receive=lambda delivery: received.append(delivery.tag),
        refuse=lambda delivery, reason: refused.append((delivery.tag, reason)),
        drop=lambda delivery: None,
        report=lambda sender, reason: None,
    )
    for tag in range(300):
        turns.put(Delivery(tag, "q", "a.update", "update.k1.c1", b"", "m", codec.MSGPACK, False, "c1", priority=9))
    turns.put(Delivery(300, "q", "a.update", "update.k1.c2", b"", "m", codec.MSGPACK, False, "c2"))
    turns.put(Delivery(301, "q", "a.task", "plan.k1", b"", "m", codec.MSGPACK, False, SERVERS, priority=9))
    assert received == [300, 301]
    assert refused == [(tag, PRIORITY) for tag in range(int(BURST))]


@pytest.mark.parametrize("servers", [None, SERVERS])
def test_without_an_account_the_address_counts_and_where_the_servers_have_none_nobody_waits(
    servers: str | None,
) -> None:
    scheduler = VirtualScheduler()
    received: list[Delivery] = []
    turns = FairTurns(
        scheduler,
        servers=server_accounts(Topology("a"), servers),
        prefetch=4_000,
        receive=received.append,
        refuse=lambda delivery, reason: None,
        drop=lambda delivery: None,
        report=lambda sender, reason: None,
    )
    for number in range(300):
        for name in ("c1", "c2"):
            turns.put(Delivery(number, "q", "a.update", f"update.k1.{name}", b"", "m", codec.MSGPACK, False))
    counted = Counter(delivery.routing_key for delivery in received)
    assert set(counted.values()) == {300 if servers is None else BURST}
