"""An alliance in virtual time with one account that publishes fuzzed messages: real cores, real runtime, real performers."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import bson

from fedmq.brokers.base import Delivery, Outgoing
from fedmq.brokers.memory.queue import QueuedMessage
from fedmq.errors import ProtocolError
from fedmq.records.documents import from_text, to_text
from fedmq.records.mongo_documents import row_of
from fedmq_schemas import records as tables
from fedmq_schemas.policy import Policy, Strategy
from fuzz.member import ME, Member
from fuzz.messages import Hostile, Names, Sent
from simulation.alliance import ALLIANCE, Simulation
from simulation.plans import Fault, FaultPlan, SimulatedClient
from support.world import Process

SERVERS = "servers"
HONEST = ("client1", "client2", "client3")
COMBINERS = ("combiner1", "combiner2")
BEGIN = 1.0
"""Virtual seconds after which the first message is published; the session starts after 5."""
PACE, FLOOD = 45.0, 300.0
"""Messages a second: just what four inboxes handle of one account, and far more."""
LIMIT = 3000.0
BACKLOG = 300.0
"""Virtual seconds within which the inboxes have handled what waited for its turn."""
DEEPEST_IN_MONGODB = 100
LARGEST_IN_MONGODB = 16 * 2**20
AWAY = ("messages turned away", "events turned away")


def plan_of(seed: int) -> FaultPlan:
    """Returns the alliance of a seed: three honest clients whose updates are all needed, and at times crashes."""
    source = random.Random(seed)
    clients = [SimulatedClient(name, source.choice([1, 7, 500]), source.choice([0.01, 1.0, 5.0])) for name in HONEST]
    policy = Policy(
        rounds=3,
        clients_required=len(HONEST),
        timeout=15.0,
        retries=20,
        wait=900.0,
        validation_timeout=10.0,
        strategy=Strategy(name=source.choice(["fedavg", "fedavg", "fedadam"])),
        random_seed=source.randrange(2**31),
        validation=source.choice(["with_training", "separate", "none"]),
        weighting=source.choice(["examples", "equal", "capped:10"]),
    )
    crashes = [
        Fault(source.uniform(6.0, 40.0), "crash", source.choice(["reducer1", *COMBINERS, "recorder"]), 1.0)
        for _ in range(source.choice([0, 0, 1, 2]))
    ]
    return FaultPlan(
        seed=seed,
        kind="slack",
        reducers=("reducer1",),
        combiners=dict.fromkeys(COMBINERS, 0.0),
        clients=tuple(clients),
        sessions=(policy,),
        offload=source.random() < 0.5,
        recorder=True,
        blows=tuple(crashes),
    )


class Refusals(logging.Handler):
    """Counts the messages that inboxes turn away, and keeps the errors that the runtime logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.away = 0
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            text = getattr(record, "traceback", getattr(record, "reason", record.getMessage()))
            self.errors.append(f"{getattr(record, 'actor', record.name)}: {text}")
        elif record.getMessage() in AWAY:
            self.away += int(record.reason.partition(" ")[0]) - 1  # type: ignore[attr-defined]


class FuzzedAlliance(Simulation):
    """One run of a seed. `messages`: how many are drawn, or those that are published, each with its virtual time.

    - `is_member`: the account's client trains, so that some of its updates count.
    - `is_flood`: more messages are published than inboxes handle.
    """

    def __init__(self, seed: int, messages: int | Sequence[tuple[float, Sent]]) -> None:
        plan = plan_of(seed)
        self.is_flood = not plan.blows and seed % 8 == 7
        self.is_member = seed % 2 == 0
        super().__init__(plan if messages else replace(plan, blows=()), servers=SERVERS)
        self.sent: list[tuple[float, Sent]] = []
        self.routed: list[Sent] = []
        self.letters: list[Delivery] = []
        self.refusals = Refusals()
        self.world.records.encode = self._encode
        self._connection = self.world.broker.connect(ME)
        names = Names(ALLIANCE.alliance, ME, HONEST, COMBINERS, self.sessions)
        self.hostile = Hostile(seed, names)
        self._waiting = iter(self._drawn(messages) if isinstance(messages, int) else messages)
        if messages:
            self.world.broker.connect("dead").consume(ALLIANCE.dead().name, 0, self.letters.append)
            member = Member(self.world, self.hostile, uploads=self.is_member)
            self.world.scheduler.later(0.5, member.attach)
            self._schedule_next()

    def run(self, limit: float = LIMIT) -> bool:
        """Runs until the session and all messages are through; returns whether the session has ended."""
        logger = logging.getLogger("fedmq")
        logger.addHandler(self.refusals)
        try:
            has_ended = super().run(limit)
            self.world.scheduler.run(lambda: not self.left_over(), self.world.scheduler.now() + BACKLOG)
            return has_ended
        finally:
            logger.removeHandler(self.refusals)

    # -- the hostile account ----------------------------------------------------------------------------------------

    def _drawn(self, count: int) -> Iterator[tuple[float, Sent]]:
        for number in range(count):
            yield BEGIN + number / (FLOOD if self.is_flood else PACE), self.hostile.draw()

    def _schedule_next(self) -> None:
        found = next(self._waiting, None)
        if found is not None:
            at, message = found
            self.world.scheduler.later(at - self.world.scheduler.now(), lambda: self._publish_next(at, message))

    def _publish_next(self, at: float, message: Sent) -> None:
        self.sent.append((at, message))
        self._publish(message)
        self._schedule_next()

    def _publish(self, message: Sent) -> None:
        exchange = ALLIANCE.exchange(message.exchange)
        outgoing = Outgoing(exchange, message.key, message.body, message.message_id, message.content_type)
        self._connection.publish(outgoing)
        topics = self.world.broker.switchboard._exchanges[exchange]
        copies = topics.match(message.copy) if message.copy else ()
        for queue in copies:  # RabbitMQ routes it by this key too, and delivers it with the first one
            queue.put(QueuedMessage(outgoing, ME, {"CC": [message.copy]}, None))
        if copies or topics.match(message.key):
            self.routed.append(message)

    def _sent(self, process: Process, message: Outgoing) -> None:
        super()._sent(process, message)
        kind, (_, _, rest) = "", message.body.partition(b"\xa4kind")
        if rest:
            kind = rest[1 : 1 + (rest[0] & 31)].decode()
            self.hostile.see(kind, message.body)

    # -- what it did ------------------------------------------------------------------------------------------------

    def _encode(self, document: Mapping[str, Any]) -> None:
        """Encodes a record as the adapters of MongoDB and SQLite do, and notes what they refuse."""
        try:
            size = len(bson.encode(row_of("key", document)))
            if size > LARGEST_IN_MONGODB or _depth(document) > DEEPEST_IN_MONGODB:
                raise ProtocolError("it is too large or too deep for MongoDB")
            from_text(to_text(document))
        except (bson.errors.BSONError, OverflowError, UnicodeError, ProtocolError) as error:
            self.observed.broken.append(f"a record is refused: {error!r}: {str(document)[:500]}")
            raise ProtocolError(f"not a record: {error}") from error

    def models(self) -> list[tuple[int, str]]:
        """Returns round and SHA-256 of each committed model."""
        rounds = self.world.records.inner.find(tables.ROUNDS, {"session": self.sessions[0]}, order="round")
        return [(each["round"], each["model"]["sha256"]) for each in rounds]


def _depth(value: Any) -> int:
    if isinstance(value, Mapping):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list | tuple) else 0
