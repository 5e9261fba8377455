"""The reducer's decisions. Pure.

One reducer decides at a time: the one that holds the lease. The others stand by and keep what they receive unsettled. A
reducer that finds that its lease was taken gives its messages back and stands by. A reducer that takes the lease reads the
records first, then publishes `welcome` to every combiner, which answers with all that it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from fedmq.codec import name_from_id
from fedmq.effects import (
    Ack,
    CoreEvent,
    Done,
    Drained,
    Effect,
    Failed,
    Fired,
    Now,
    Publish,
    PublishEvent,
    Received,
    Reconnected,
    Reject,
    Resubscribe,
    Started,
    StartTimer,
    Stopping,
)
from fedmq.errors import Fenced
from fedmq_reducer.assignment import Assignment
from fedmq_reducer.operations import (
    Acquire,
    CheckLease,
    Load,
    RecordPartial,
    RecordParticipation,
    Release,
    Renew,
    Snapshot,
)
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.queue import Sessions
from fedmq_schemas import messages, topology

LEASE_PERIOD = 3.0
LEASE_HINT_PERIOD = 0.5


class LeaseState(Enum):
    STANDBY = "standby"
    LOADING = "loading"
    ACTIVE = "active"


class ReducerCore:
    """`members` knows clients and combiners, `presence` is their period in seconds."""

    def __init__(self, members: Assignment, *, presence: float) -> None:
        self.lease = LeaseState.STANDBY
        self.members = members
        self._context = ReducerContext(members)
        self.sessions = Sessions(self._context)
        self._presence = presence
        self._stash: list[Received] = []
        self._insisted = False
        self._is_asking = False
        self._loading: Load | None = None

    @property
    def term(self) -> int:
        """The number of the newest lease that this reducer has held; 0 before the first one."""
        return self._context.term

    def handle(self, event: CoreEvent, now: Now) -> Sequence[Effect]:
        """Returns the effects that answer an event. An exception, which is a bug, leaves none."""
        self._context.now = now
        try:
            self._handle(event)
        except Exception:
            self._context.take_effects()
            raise
        return self._context.take_effects()

    def _handle(self, event: CoreEvent) -> None:
        match event:
            case Received() if self.lease is LeaseState.ACTIVE and not self.sessions.is_broken:
                self._received(event)
            case Received():
                self._keep(event)
            case Failed(effect=effect, error=Fenced()):
                self._lease_answered(effect)
                self._lose(effect)
            case Done(effect=Acquire() as effect, result=term):
                self._lease_answered(effect)
                self._acquired(term)
            case Done(effect=Load() as effect, result=Snapshot() as snapshot):
                self._loaded(effect, snapshot)
            case Done(effect=Renew() as effect, result=is_ours):
                self._lease_answered(effect)
                if not is_ours:
                    self._lose(effect)
            case Done():
                self._context.answer(event)
            case Failed():
                self._lease_answered(event.effect)
                self._failed(event)
            case Fired():
                self._fired(event)
            case Started():
                self._context.emit(StartTimer("lease", LEASE_PERIOD))
                self._ask(Acquire())
            case Reconnected():
                self._stash.clear()
            case Stopping():
                released = [Release(self.term)] if self.lease is LeaseState.ACTIVE else []
                self._context.emit(*released, Drained())

    def waits(self) -> dict[str, str]:
        """Returns for each session under way where its course stands and what it waits for."""
        return self.sessions.waits()

    # -- the lease --------------------------------------------------------------------------------------------------

    def _keep(self, event: Received) -> None:
        """Keeps a message until this reducer has read the records, or gives it back. The first one that a standby receives
        is a hint that nobody else decides."""
        self._stash.append(event)
        if len(self._stash) == 1 and self.lease is LeaseState.STANDBY:
            self._ask(Acquire())

    def _ask(self, effect: Acquire | Renew) -> None:
        """Asks for the lease, one question at a time: while the record store is away the runtime tries it again."""
        if not self._is_asking:
            self._is_asking = True
            self._context.emit(effect)

    def _lease_answered(self, effect: Effect) -> None:
        if isinstance(effect, Acquire | Renew):
            self._is_asking = False

    def _acquired(self, term: int | None) -> None:
        if self.lease is not LeaseState.STANDBY:
            return
        if term is None:
            self._not_acquired()
            return
        self._insisted = False
        self._context.term = term
        self._load()

    def _not_acquired(self) -> None:
        """Another reducer decides. If the broker delivers its messages here all the same, they go back, and this reducer
        queues for the inbox anew; half a second later, as the holder may just have died."""
        if not self._stash:
            return
        self._insisted = not self._insisted
        if self._insisted:
            self._context.emit(StartTimer("lease", LEASE_HINT_PERIOD))
            return
        self._stand_by()

    def _load(self) -> None:
        """Reads the records, from which this reducer then decides."""
        self.lease = LeaseState.LOADING
        self._loading = Load()
        self._context.emit(self._loading)

    def _loaded(self, effect: Load, snapshot: Snapshot) -> None:
        if effect is not self._loading:
            return  # read under an earlier lease
        context, self._loading = self._context, None
        self.members.restore(snapshot.clients, snapshot.combiners, context.now.seconds)
        context.emit(
            PublishEvent("reducer.active", data={"epoch": self.term}),
            StartTimer("presence", self._presence),
            StartTimer("lease", LEASE_PERIOD),
        )
        self.sessions.restore(snapshot)
        for combiner in self.members.combiners:
            self._welcome(combiner)
        for event in self._stash:
            self._received(event)
        self._stash.clear()
        self.lease = LeaseState.ACTIVE

    def _lose(self, effect: Effect) -> None:
        """Stands by because another reducer decides now, unless the effect that shows it is of an earlier lease."""
        if self.lease is not LeaseState.STANDBY and getattr(effect, "term", self.term) == self.term:
            self._stand_by()

    def _stand_by(self) -> None:
        """Gives back the messages that this reducer holds."""
        self.lease, self._loading = LeaseState.STANDBY, None
        self.sessions.close()
        self._stash.clear()
        self._context.emit(Resubscribe(), StartTimer("lease", LEASE_PERIOD))

    def _failed(self, event: Failed) -> None:
        """Raises the error in the routine that waits for the effect, or ends the session that needs it. An effect of an
        earlier lease, tried again all the while, may be refused for what has happened since: nobody needs it."""
        if event.effect is self._loading:
            self._loading = None  # `_renew` tries again
            reason = f"this reducer can't decide, as it can't read the records: {event.error.reason}"
            self._context.emit(PublishEvent("actor.error", data={"reason": reason}))
        if self.lease is not LeaseState.ACTIVE or self._context.answer(event):
            return
        session = _session_of(event.effect) if getattr(event.effect, "term", self.term) == self.term else None
        if session is not None:
            self.sessions.fail(session, event.error)

    def _fired(self, event: Fired) -> None:
        if event.key == "lease":
            self._renew()
        elif self.lease is not LeaseState.ACTIVE:
            return
        elif event.key == "presence":
            self._context.emit(*self.members.expire(self._context.now))
            self._rehome()
            self._context.emit(StartTimer("presence", self._presence))
        else:
            self.sessions.fired(event)

    def _renew(self) -> None:
        """Asks for the lease, or to keep it. Reads the records again if that has failed, or if a routine has ended by a bug:
        not at once, because the cause may still be there."""
        self._context.emit(StartTimer("lease", LEASE_PERIOD))
        self._ask(Acquire() if self.lease is LeaseState.STANDBY else Renew(self.term))
        has_failed_to_read = self.lease is LeaseState.LOADING and self._loading is None
        if has_failed_to_read or (self.lease is LeaseState.ACTIVE and self.sessions.is_broken):
            self._load()

    # -- messages ---------------------------------------------------------------------------------------------------

    def _received(self, event: Received) -> None:
        context, body, sender = self._context, event.body, event.envelope.sender
        match body:
            case messages.Partial():
                self.sessions.partial(event, body)
            case messages.Validation():
                self.sessions.validation(event, body)
            case messages.Attach():
                context.emit(*self.members.attach(event, body, self.term, context.now))
            case messages.CombinerPresence(leaving=True):
                context.emit(*self.members.combiner_left(sender, context.now))
                self._rehome()
                context.emit(Ack((event.tag,)))
            case messages.CombinerPresence():
                self._heard(sender)
                context.emit(*self.members.presence(sender, body, context.now))
                if self.members.disagrees(sender, body):
                    self._answer_hello(sender)
                self.sessions.members_changed()
                context.emit(Ack((event.tag,)))
            case messages.CombinerHello():
                self._heard(sender)
                self._answer_hello(sender)
                context.emit(Ack((event.tag,)))
            case messages.Start(policy=policy):
                self.sessions.start(event, name_from_id(event.envelope.id), policy)
            case messages.Stop():
                self.sessions.stop(event, body)
            case _:
                context.emit(Reject(event.tag, f"a reducer does not receive {body.kind} messages"))

    def _heard(self, combiner: str) -> None:
        """Notes a sign of life. If the combiner is new, waiting clients get a place, and those of vanished ones move."""
        context, members = self._context, self.members
        if members.hear(combiner, context.now):
            context.emit(*members.join(combiner, context.now), *members.serve_waiting(self.term, context.now))
            self._rehome()

    def _rehome(self) -> None:
        moved, effects = self.members.rehome(self.term)
        self._context.emit(*effects)
        self.sessions.move_clients(moved)

    def _answer_hello(self, combiner: str) -> None:
        """Publishes a combiner's open plans and the welcome that ends them, while the lease is held: a combiner that was
        welcomed does not ask again, and a reducer that lost the lease knows of no plan made since."""
        self._context.emit(CheckLease(self.term))
        self.sessions.publish_open_plans(combiner)
        self._welcome(combiner)

    def _welcome(self, combiner: str) -> None:
        body = messages.Welcome(epoch=self.term, presence=self._presence)
        self._context.emit(Publish("task", topology.plan_key(combiner), body))


def _session_of(effect: Effect) -> str | None:
    """Returns the session that cannot go on without this effect."""
    match effect:
        case Publish(body=messages.Plan(plan=plan)):
            return plan.session
        case RecordPartial(record=record):
            return record.session
        case RecordParticipation(session=session):
            return session
    return None
