"""Decides which client works with which combiner. Pure.

A client may attach at any time, and is granted the combiner with the fewest clients. A client's ordinal is the lowest free
number. It stays the same while the client is present, and is free again once the client has vanished. The clients of a
combiner that has vanished are moved to present combiners, as soon as there are any. Between two rounds, clients are moved so
that combiners that were added relieve the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fedmq import __version__
from fedmq.runtime.effects import Ack, Declare, DeleteQueue, Effect, Now, Publish, PublishEvent, Received
from fedmq.runtime.peers.presence_table import PresenceTable
from fedmq_reducer.members.balancing import balanced
from fedmq_reducer.members.client_member import ClientMember, Ordinals
from fedmq_reducer.operations import RecordClients, RecordCombiners
from fedmq_schemas import topology
from fedmq_schemas.messages import VERSION, About, Attach, CombinerPresence, Grant, Wait
from fedmq_schemas.records import ClientRecord, CombinerRecord
from fedmq_schemas.topology import MAILBOX_EXPIRES, Topology

REQUEST_AGAIN = 5.0
GRANT_EXPIRES = 60.0


class Membership:
    """The clients and combiners of an alliance.

    - `partitions`: the number of parts of a common data set, if fixed.
    - `inbox_expires`: seconds after which the inbox of a combiner that is away is deleted.
    """

    def __init__(
        self,
        alliance: Topology,
        *,
        presence: float,
        partitions: int | None = None,
        inbox_expires: float = MAILBOX_EXPIRES,
    ) -> None:
        self.topology = alliance
        self._inbox_expires = inbox_expires
        self._presence = presence
        self._partitions = partitions
        self.clients: dict[str, ClientMember] = {}
        self.combiners = PresenceTable(presence)
        self.departed: dict[str, float] = {}
        """When each combiner that is away was last seen, in UTC seconds since 1970."""
        self._load: dict[str, int] = {}
        self._ordinals = Ordinals()
        self._waiting: dict[str, Attach] = {}
        self._json_readers: set[str] = set()
        self._listed: dict[str, set[str]] = {}
        self._refused: dict[str, str] = {}

    def restore(self, clients: Iterable[ClientRecord], combiners: Iterable[CombinerRecord], now: float) -> None:
        """Replaces everything by the records. Present combiners stay present until they miss three heartbeats."""
        self.clients.clear()
        self._load.clear()
        self._waiting.clear()
        self._ordinals = Ordinals()
        self.combiners = PresenceTable(self._presence)
        self.combiners.start(now)
        self.departed.clear()
        for combiner in combiners:
            if combiner.state == "present":
                self.combiners.note(combiner.combiner, now)
                self._load[combiner.combiner] = 0
            else:
                self.departed[combiner.combiner] = combiner.last_seen
        for record in clients:
            client = ClientMember.of(record)
            client.granted_at = None if client.present else now  # an earlier reducer may just have granted it
            self.clients[client.name] = client
            if client.json_reader:
                self._json_readers.add(client.name)
            if client.combiner in self._load:  # clients that are away count too, as in `note_combiner`
                self._load[client.combiner] += 1
            if client.present and client.ordinal is not None:
                client.ordinal = self._ordinals.take(client.name, client.ordinal)

    def eligible(self, task: str) -> list[ClientMember]:
        """Returns the clients that are present and do this task, sorted by name."""
        return [
            self.clients[name]
            for name in sorted(self.clients)
            if self.clients[name].present and task in self.clients[name].tasks
        ]

    def json_readers(self, names: Iterable[str]) -> tuple[str, ...]:
        """Returns those of the clients that are answered in JSON."""
        return tuple(name for name in names if name in self._json_readers)

    def homes(self) -> dict[str, str]:
        """Returns client → combiner, for the clients of present combiners."""
        clients = self.clients.values()
        return {client.name: client.combiner for client in clients if client.combiner in self.combiners}

    # -- clients ----------------------------------------------------------------------------------------------------

    def attach(self, event: Received, body: Attach, term: int, now: Now) -> list[Effect]:
        """Grants a client a combiner, at once or when one is present. Publishes why the client must wait."""
        name = event.envelope.sender
        if name == topology.REDUCER or not topology.is_name(name):
            return [*self._wait(name, f"{name!r} can't be a client's name"), Ack((event.tag,))]
        if not body.speaks[0] <= VERSION <= body.speaks[1]:
            reason = f"the client speaks versions {body.speaks[0]} to {body.speaks[1]}, this alliance {VERSION}"
            refused = PublishEvent("client.refused", client=name, data={"reason": reason, "software": body.software})
            is_new, self._refused[name] = self._refused.get(name) != reason, reason
            reported = [Declare(self.topology.client(name)), refused] if is_new else []
            return [*reported, *self._wait(name, reason), Ack((event.tag,))]
        self._refused.pop(name, None)
        (self._json_readers.add if event.is_json else self._json_readers.discard)(name)
        if not len(self.combiners):
            self._waiting[name] = body
            answer = self._wait(name, "no combiner is there yet")
            return [Declare(self.topology.client(name)), *answer, Ack((event.tag,))]
        self._waiting.pop(name, None)
        return [*self._grant(name, body, self._choose(name), term, now), Ack((event.tag,))]

    def describe(self, event: Received) -> list[Effect]:
        """Answers an inquiry, if its sender's name is one that a client can have."""
        name = event.envelope.sender
        if name == topology.REDUCER or not topology.is_name(name):
            return [Ack((event.tag,))]
        about = About(software=f"fedmq {__version__}", speaks=(VERSION, VERSION))
        key = topology.assignment_key(name)
        answer = Publish("assignment", key, about, confirm=False, expiration=REQUEST_AGAIN)
        return [Declare(self.topology.client(name)), answer, Ack((event.tag,))]

    def _choose(self, name: str) -> str:
        """Returns the client's combiner if it is present, else the one with the fewest clients. One must be present."""
        known = self.clients.get(name)
        if known is not None and known.combiner in self.combiners:
            return known.combiner
        return min(self.combiners, key=lambda combiner: (self._load.get(combiner, 0), combiner))

    def _grant(
        self, name: str, body: Attach, combiner: str, term: int, now: Now, *, has_waited: bool = False
    ) -> list[Effect]:
        known = self.clients.get(name)
        ordinal = self._ordinals.take(name, known.ordinal if known else None) if "train" in body.tasks else None
        client = self.clients[name] = ClientMember.attached(name, body, combiner, ordinal, known, now)
        client.json_reader = name in self._json_readers
        if known is None or known.combiner != combiner:
            self._load[combiner] = self._load.get(combiner, 0) + 1
        data: dict[str, Any] = {"ordinal": ordinal, "tasks": list(body.tasks)}
        if body.instance:
            data["instance"] = body.instance
        return [
            RecordClients((client.record(),), term, has_waited),
            Declare(self.topology.client(name)),
            self._grant_message(client),
            PublishEvent("client.attached", client=name, combiner=combiner, data=data),
        ]

    def _grant_message(self, client: ClientMember, confirm: bool = False) -> Publish:
        """Returns the message. It needs no confirmation if the client has requested it, and would request it again."""
        grant = Grant(
            combiner=client.combiner,
            ordinal=client.ordinal or 0,
            count=self._partitions or max(1, self._ordinals.count()),
            presence=self._presence,
        )
        key = topology.assignment_key(client.name)
        return Publish("assignment", key, grant, confirm=confirm, expiration=GRANT_EXPIRES)

    def _wait(self, name: str, reason: str) -> list[Effect]:
        body = Wait(seconds=REQUEST_AGAIN, reason=reason)
        return [Publish("assignment", topology.assignment_key(name), body, confirm=False, expiration=REQUEST_AGAIN)]

    def forget_client(self, name: str, now: Now) -> str:
        """Removes a client that is away. Returns why it must stay, or an empty text. An unknown one is no error."""
        client = self.clients.get(name)
        if client is None:
            return ""
        if client.present:
            return f"client {name!r} is present and can't be forgotten: stop it first"
        if client.granted_at is not None and now.seconds - client.granted_at < GRANT_EXPIRES:
            return f"client {name!r} may be registering with combiner {client.combiner!r}: try again in a minute"
        self._remove(client)
        return ""

    def leave_out(self, refused: ClientRecord) -> None:
        """Removes a client whose record the store refuses, unless it has attached with other words since."""
        client = self.clients.get(refused.client)
        if client is not None and client.words == ClientMember.of(refused).words:
            self._remove(client)

    def _remove(self, client: ClientMember) -> None:
        del self.clients[client.name]
        self._ordinals.free(client.ordinal, client.name)
        if client.combiner in self._load:
            self._load[client.combiner] -= 1

    # -- combiners --------------------------------------------------------------------------------------------------

    def note_combiner(self, name: str, term: int, now: Now) -> list[Effect]:
        """Notes a heartbeat of a combiner. A new one gets the clients that waited; else there are no effects."""
        if not self.combiners.note(name, now.seconds):
            return []
        self.departed.pop(name, None)
        self._load.setdefault(name, sum(client.combiner == name for client in self.clients.values()))
        record = CombinerRecord(combiner=name, state="present", last_seen=now.wall, clients=self._load[name])
        effects: list[Effect] = [PublishEvent("combiner.joined", combiner=name), RecordCombiners((record,))]
        waiting, self._waiting = self._waiting, {}
        for client, body in waiting.items():
            effects += self._grant(client, body, self._choose(client), term, now, has_waited=True)
        return effects

    def presence(self, combiner: str, body: CombinerPresence, now: Now) -> list[Effect]:
        """Records which of its clients a combiner reports as present or gone.

        A client gets a new grant if it is present at another combiner than its own, or if its ordinal was given to another
        client while it was away.
        """
        changed: list[ClientMember] = []
        granted: list[Effect] = []
        for name in body.present:
            client = self.clients.get(name)
            if client is None:  # it was forgotten and has returned without a new request
                granted += [Declare(self.topology.client(name)), *self._wait(name, "it is not known here any more")]
            elif client.combiner != combiner:
                granted.append(self._grant_message(client, confirm=True))
            elif not client.present:
                client.present, client.granted_at, before = True, None, client.ordinal
                if before is not None:
                    client.ordinal = self._ordinals.take(name, before)
                if client.ordinal != before:
                    granted.append(self._grant_message(client, confirm=True))
                changed.append(client)
        gone = set(body.gone)
        if body.full:
            listed = self._listed.setdefault(combiner, set())
            listed.update(body.present)
            if not body.more:
                gone |= {c.name for c in self.clients.values() if c.combiner == combiner and c.present} - listed
                del self._listed[combiner]
        for name in sorted(gone):
            client = self.clients.get(name)
            if client is not None and client.combiner == combiner and client.present:
                changed.append(self._away(client))
        for client in changed:
            client.last_seen = now.wall
        record = CombinerRecord(
            combiner=combiner, state="present", last_seen=now.wall, clients=body.clients, stalls=body.stalls
        )
        effects: list[Effect] = [RecordCombiners((record,))]
        if changed:
            effects.append(RecordClients(tuple(client.record() for client in changed), None, is_known=True))
        return effects + granted

    def disagrees(self, combiner: str, beat: CombinerPresence) -> bool:
        """Returns whether a combiner reports another number of clients than is known here: a report may be late."""
        if beat.full or beat.present or beat.gone:
            return False
        return beat.clients != sum(client.present and client.combiner == combiner for client in self.clients.values())

    def _away(self, client: ClientMember) -> ClientMember:
        client.present, client.granted_at = False, None
        self._ordinals.free(client.ordinal, client.name)
        return client

    def combiner_left(self, name: str, now: Now) -> list[Effect]:
        """Removes a combiner that has left."""
        self.combiners.remove(name)
        return self._lost([name], "it left", now)

    def expire(self, now: Now) -> list[Effect]:
        """Removes the combiners that have missed three heartbeats."""
        return self._lost(
            self.combiners.expire(now.seconds), "no message from it arrived for three presence periods", now
        )

    def _lost(self, names: list[str], reason: str, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        for name in names:
            self._load.pop(name, None)
            self.departed[name] = now.wall
            record = CombinerRecord(combiner=name, state="away", last_seen=now.wall, clients=0)
            effects.append(PublishEvent("combiner.vanished", combiner=name, data={"reason": reason}))
            effects.append(RecordCombiners((record,)))
        return effects

    def expire_inboxes(self, has_open_plan: Callable[[str], bool], now: Now) -> list[Effect]:
        """Deletes the inboxes of combiners that have been away for long, unless a plan of theirs is open.

        Their clients have been moved and repeat their updates, so these messages have no reader. A combiner that returns
        declares its inbox again, registers, and receives its plans.
        """
        expired = [
            name
            for name, seen in self.departed.items()
            if now.wall - seen >= self._inbox_expires and not has_open_plan(name)
        ]
        for name in expired:
            del self.departed[name]
        return [DeleteQueue(each) for name in expired for each in self.topology.combiner(name).names]

    def forget_combiner(self, name: str) -> str:
        """Removes a combiner that is away. Returns why it must stay, or an empty text. An unknown one is no error."""
        if name in self.combiners:
            return f"combiner {name!r} is present and can't be forgotten: stop it first"
        self.departed.pop(name, None)
        return ""

    def rehome(self, term: int, now: Now) -> list[Effect]:
        """Moves the clients of combiners that are not present to those that are, if there are any."""
        effects: list[Effect] = []
        if not len(self.combiners):
            return effects
        for name in sorted(self.clients):
            client = self.clients[name]
            if client.combiner in self.combiners:
                continue
            client.combiner, client.present, client.granted_at = self._choose(name), False, now.seconds
            self._load[client.combiner] = self._load.get(client.combiner, 0) + 1
            recording = RecordClients((client.record(),), term, is_known=True)
            effects += [recording, self._grant_message(client, confirm=True)]
        return effects

    def rebalance(self, term: int) -> list[Effect]:
        """Moves present clients, so that the combiners have equally many. They stay present, and can be drawn at once.

        A plan at the new combiner reaches them before they have registered there, as each client has a mailbox of its own.
        No plan that they train for may be open at the old one.
        """
        assigned = {client.name: client.combiner for client in self.clients.values() if client.present}
        effects: list[Effect] = []
        for name, combiner in balanced(assigned, list(self.combiners)).items():
            client, former = self.clients[name], assigned[name]
            client.combiner = combiner
            self._load[former] = self._load.get(former, 1) - 1
            self._load[combiner] = self._load.get(combiner, 0) + 1
            effects += [
                RecordClients((client.record(),), term, is_known=True),
                Declare(self.topology.client(name)),
                self._grant_message(client, confirm=True),
                PublishEvent("client.reassigned", client=name, combiner=combiner, data={"former": former}),
            ]
        return effects
