"""Which clients a combiner receives messages from, reported to the reducer in batches. Pure."""

from __future__ import annotations

from fedmq.runtime.effects import Effect, Now, Publish, PublishEvent, StartTimer
from fedmq.runtime.peers.presence_table import PresenceTable
from fedmq_schemas import topology
from fedmq_schemas.messages import MAX_LISTED_CLIENTS, CombinerPresence

TELL_AFTER = 0.02
BEAT, CHANGES, FULL = "presence:beat", "presence:changes", "presence:full"


class Presence:
    """Reports changes after 20 ms, so that a thousand clients that arrive at once make two messages, not a thousand.

    The full list is held back until two periods after the first message, because a present client may have sent nothing
    until then. A process that stands by receives no messages, and reports no clients.
    """

    def __init__(self, combiner: str, clients: PresenceTable) -> None:
        self._combiner = combiner
        self._clients = clients
        self._joined: set[str] = set()
        self._gone: set[str] = set()
        self._released: set[str] = set()
        self._full_from = 0.0
        self._is_listening = False

    @property
    def count(self) -> int:
        """Returns how many clients are present."""
        return len(self._clients)

    def start(self) -> list[Effect]:
        """Notes that the process is connected. The broker may still serve another process of the same name."""
        self._is_listening = False
        return [StartTimer(BEAT, self._clients.period)]

    def listen(self, now: Now) -> list[Effect]:
        """Notes that the broker serves this process."""
        self._is_listening = True
        self._clients.start(now.seconds)
        self._full_from = now.seconds + 2 * self._clients.period
        return [StartTimer(CHANGES, TELL_AFTER)] if self._joined or self._gone else []

    def note(self, client: str, now: Now) -> list[Effect]:
        """Notes that a client has sent something."""
        self._released.discard(client)
        return self._join(client) if self._clients.note(client, now.seconds) else []

    def note_answer(self, client: str, now: Now) -> list[Effect]:
        """Notes that a client has sent something of a task. One that was assigned elsewhere may still answer a task."""
        return [] if client in self._released else self.note(client, now)

    def greet(self, client: str, now: Now) -> list[Effect]:
        """Notes a hello, and reports it each time: the reducer may have moved the client meanwhile."""
        self._released.discard(client)
        if self._clients.note(client, now.seconds):
            return self._join(client)
        self._joined.add(client)
        return [StartTimer(CHANGES, TELL_AFTER)]

    def _join(self, client: str) -> list[Effect]:
        self._gone.discard(client)
        self._joined.add(client)
        return [
            StartTimer(CHANGES, TELL_AFTER),
            PublishEvent("client.joined", client=client, combiner=self._combiner),
        ]

    def forget(self, client: str) -> list[Effect]:
        """Notes that a client has left."""
        return self._lost([client], "it left") if self._clients.remove(client) else []

    def release(self, client: str) -> list[Effect]:
        """Notes that a client has been assigned to another combiner. Publishes no event: it has not vanished."""
        self._released.add(client)
        if not self._clients.remove(client):
            return []
        self._joined.discard(client)
        self._gone.add(client)
        return [StartTimer(CHANGES, TELL_AFTER)]

    def fired(self, key: str, now: Now) -> list[Effect]:
        """Handles a timer: a heartbeat, changes to report, or the full list that was held back."""
        beat = StartTimer(BEAT, self._clients.period)
        if not self._is_listening:
            return [beat] if key == BEAT else []
        if key == CHANGES:
            return self._changes()
        if key == FULL:
            return self._all()
        lost = self._lost(self._clients.expire(now.seconds), "no message from it arrived for three presence periods")
        return [*lost, self._publish(CombinerPresence(clients=len(self._clients))), beat]

    def full(self, now: Now) -> list[Effect]:
        """Reports all clients to a reducer that has become active, or with which the combiner has registered."""
        if now.seconds < self._full_from:
            return [StartTimer(FULL, self._full_from - now.seconds)]
        return self._all()

    def _all(self) -> list[Effect]:
        self._joined.clear()
        self._gone.clear()
        names = list(self._clients)
        effects: list[Effect] = []
        for start in range(0, len(names) or 1, MAX_LISTED_CLIENTS):
            end = start + MAX_LISTED_CLIENTS
            part = CombinerPresence(
                clients=len(names), present=tuple(names[start:end]), full=True, more=end < len(names)
            )
            effects.append(self._publish(part, confirm=True))
        return effects

    def leave(self) -> list[Effect]:
        """Reports that the combiner leaves.

        A process that stands by reports nothing: the reducer would void the plans of the one that works under its name.
        """
        if not self._is_listening:
            return []
        return [self._publish(CombinerPresence(clients=len(self._clients), leaving=True), confirm=True)]

    def _lost(self, clients: list[str], reason: str) -> list[Effect]:
        if not clients:
            return []
        self._joined.difference_update(clients)
        self._gone.update(clients)
        events = [
            PublishEvent("client.vanished", client=client, combiner=self._combiner, data={"reason": reason})
            for client in clients
        ]
        return [StartTimer(CHANGES, TELL_AFTER), *events]

    def _changes(self) -> list[Effect]:
        changed = [(name, True) for name in sorted(self._joined)] + [(name, False) for name in sorted(self._gone)]
        self._joined.clear()
        self._gone.clear()
        effects: list[Effect] = []
        for start in range(0, len(changed), MAX_LISTED_CLIENTS):
            listed = changed[start : start + MAX_LISTED_CLIENTS]
            part = CombinerPresence(
                clients=len(self._clients),
                present=tuple(name for name, is_here in listed if is_here),
                gone=tuple(name for name, is_here in listed if not is_here),
            )
            effects.append(self._publish(part, confirm=True))
        return effects

    def _publish(self, body: CombinerPresence, confirm: bool = False) -> Publish:
        return Publish("assignment", topology.assignment_request_key(self._combiner), body, confirm=confirm)
