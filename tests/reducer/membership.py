"""The reducer's membership under test: events in, effects out, at the time that a test sets."""

from __future__ import annotations

from collections.abc import Sequence

from fedmq.runtime.effects import Effect, Now, Publish, Received
from fedmq_reducer.members.membership import Membership
from fedmq_reducer.operations import RecordClients, RecordCombiners
from fedmq_schemas.messages import Attach, CombinerPresence, Envelope, Grant, Inquiry, Wait
from fedmq_schemas.records import ClientRecord, CombinerRecord
from fedmq_schemas.topology import Topology

PERIOD = 10.0
TERM = 3
WALL = 1_000.0


def clients_of(effects: Sequence[Effect]) -> dict[str, ClientRecord]:
    """Returns the client records that are written, by name."""
    written = [record for effect in effects if isinstance(effect, RecordClients) for record in effect.records]
    return {record.client: record for record in written}


def combiners_of(effects: Sequence[Effect]) -> dict[str, CombinerRecord]:
    """Returns the combiner records that are written, by name."""
    written = [record for effect in effects if isinstance(effect, RecordCombiners) for record in effect.records]
    return {record.combiner: record for record in written}


def answers(effects: Sequence[Effect]) -> list[Publish]:
    """Returns the messages to clients."""
    return [effect for effect in effects if isinstance(effect, Publish)]


def grants(effects: Sequence[Effect]) -> dict[str, Grant]:
    """Returns the grants that are published, by client."""
    return {
        publish.routing_key.removeprefix("assignment."): publish.body
        for publish in answers(effects)
        if isinstance(publish.body, Grant)
    }


def waits(effects: Sequence[Effect]) -> list[str]:
    """Returns the reasons of clients that have to wait."""
    return [publish.body.reason for publish in answers(effects) if isinstance(publish.body, Wait)]


class Members:
    """An alliance's membership, to which things happen in the words of the protocol. `at`: seconds on its clock."""

    def __init__(self, *combiners: str, partitions: int | None = None) -> None:
        self.assignment = Membership(Topology("a"), presence=PERIOD, partitions=partitions)
        self.at = 0.0
        self.tag = 0
        for combiner in combiners:
            self.join(combiner)

    @property
    def now(self) -> Now:
        return Now(self.at, WALL + self.at)

    def attach(self, client: str, attach: Attach | None = None) -> list[Effect]:
        """A client requests a combiner."""
        self.tag += 1
        body = attach or Attach()
        envelope = Envelope(kind=body.kind, id=f"m{self.tag}", alliance="a", sender=client, sent_at=0.0)
        return self.assignment.attach(Received(body, envelope, self.tag), body, TERM, self.now)

    def inquire(self, client: str) -> list[Effect]:
        """A client, or its doctor, requests the reducer's version."""
        self.tag += 1
        envelope = Envelope(kind=Inquiry.kind, id=f"m{self.tag}", alliance="a", sender=client, sent_at=0.0)
        return self.assignment.describe(Received(Inquiry(), envelope, self.tag))

    def join(self, combiner: str) -> list[Effect]:
        """A combiner gives a sign of life. If it is new, the core serves waiting clients and moves those of combiners that
        are gone."""
        joined = self.assignment.note_combiner(combiner, TERM, self.now)
        return [*joined, *self.move()] if joined else []

    def report(
        self,
        combiner: str,
        present: tuple[str, ...] = (),
        *,
        gone: tuple[str, ...] = (),
        full: bool = False,
        more: bool = False,
    ) -> list[Effect]:
        """A combiner reports changes among its clients; with `full` all of them."""
        body = CombinerPresence(clients=len(present), present=present, gone=gone, full=full, more=more)
        return self.assignment.presence(combiner, body, self.now)

    def disagrees(self, combiner: str, clients: int, present: tuple[str, ...] = (), *, full: bool = False) -> bool:
        """A combiner reports the number of its clients."""
        return self.assignment.disagrees(combiner, CombinerPresence(clients=clients, present=present, full=full))

    def move(self) -> list[Effect]:
        return self.assignment.rehome(TERM, self.now)

    def combiner_of(self, client: str) -> str:
        return self.assignment.clients[client].combiner

    def ordinal_of(self, client: str) -> int | None:
        return self.assignment.clients[client].ordinal

    def is_present(self, client: str) -> bool:
        return self.assignment.clients[client].present
