"""The reducer's decisions. Pure.

One reducer decides at a time: the one that holds the lease. The others stand by, and leave the messages that they receive
unacknowledged. A reducer whose lease another one has taken gives its messages back and stands by. A reducer that takes the
lease reads the records first. Then it publishes `welcome` to every combiner, which reports all of its clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from fedmq.errors import FedMQError, Fenced
from fedmq.lease import HeldLease, LeaseWatch
from fedmq.runtime.effects import (
    Apart,
    Broken,
    CoreEvent,
    Done,
    Drained,
    Effect,
    Failed,
    Fired,
    Now,
    Perform,
    Publish,
    PublishEvent,
    Question,
    ReadsJson,
    Received,
    Reconnected,
    Reject,
    Resubscribe,
    Started,
    StartTimer,
    Stopping,
)
from fedmq_reducer.inbox import Inbox
from fedmq_reducer.members.membership import Membership
from fedmq_reducer.operations import (
    Acquire,
    ChangeSession,
    CheckLease,
    ClientWords,
    RecordClients,
    RecordLateValidation,
    RecordValidations,
    Release,
    Renew,
)
from fedmq_reducer.sessions.belonging import session_of
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.queue import Sessions
from fedmq_reducer.snapshot import Load, Snapshot
from fedmq_schemas import messages
from fedmq_schemas.records import SessionEnd

LEASE_PERIOD = 3.0
LEASE_HINT_PERIOD = 0.5


class LeaseState(Enum):
    """Whether this reducer decides."""

    STANDBY = "standby"  # another reducer decides, or none
    LOADING = "loading"  # the lease is ours; the records are being read
    ACTIVE = "active"  # this reducer decides


class ReducerCore:
    """A reducer. `presence`: seconds between heartbeats. `single_combiner_rules`: see `ReducerContext`."""

    def __init__(
        self, members: Membership, *, presence: float, single_combiner_rules: frozenset[str] = frozenset()
    ) -> None:
        self.lease = LeaseState.STANDBY
        self.renewed_at = 0.0
        """When the records confirmed the lease last, in UTC seconds since 1970; 0 before the first time."""
        self.members = members
        self._context = ReducerContext(members, single_combiner_rules=single_combiner_rules)
        self.sessions = Sessions(self._context)
        self._inbox = Inbox(self._context, members, self.sessions, presence)
        self._presence = presence
        self._stash: list[Received] = []
        self._insisted = False
        self._is_asking = False
        self._watch = LeaseWatch()
        self._is_stopping = False
        self._is_broken = False
        self._loading: Load | None = None
        self._suspects: set[str] = set()

    @property
    def term(self) -> int:
        """The number of the newest lease that this reducer has held; 0 before the first one."""
        return self._context.term

    def handle(self, event: CoreEvent, now: Now) -> Sequence[Effect]:
        """Returns the effects that answer an event.

        After an exception, which is a bug, the event has no effects, and `Broken` follows.
        """
        self._context.now = now
        try:
            self._handle(event)
        except Exception:
            self._context.take_effects()
            raise
        return self._context.take_effects()

    def _handle(self, event: CoreEvent) -> None:
        match event:
            case Received() if self.lease is LeaseState.ACTIVE and not self._is_broken:
                self._inbox.received(event)
            case Received():
                self._keep(event)
            case Done() | Failed():
                if isinstance(event.effect, Acquire | Renew):
                    self._is_asking = False
                self._answered(event)
            case Fired():
                self._fired(event)
            case Broken():
                self._broken(event)
            case Started():
                self._context.emit(StartTimer("lease", LEASE_PERIOD))
                self._ask(self._acquire())
            case Reconnected():
                self._stash.clear()
            case Stopping():
                self._is_stopping = True
                released = [Release(self.term)] if self.lease is LeaseState.ACTIVE else []
                self._context.emit(*released, Drained())

    def _answered(self, event: Done | Failed) -> None:
        match event:
            case Failed(effect=effect, error=Fenced()):
                self._lose(effect)
            case Failed():
                self._failed(event)
            case Done(effect=Acquire(), result=HeldLease() as held):
                self._watch.note(held, self._context.now.seconds)
                self._not_acquired()
            case Done(effect=Acquire(), result=term):
                self._acquired(term)
            case Done(effect=Renew() as effect, result=is_ours):
                if is_ours:
                    self.renewed_at = self._context.now.wall
                else:
                    self._lose(effect)
            case Done(effect=Load() as effect, result=Snapshot() as snapshot):
                self._loaded(effect, snapshot)
            case Done():
                self._context.answer(event)

    def waits(self) -> dict[str, str]:
        """Returns for each session under way where in the code its course stands, and what it waits for."""
        return self.sessions.waits()

    # -- the lease --------------------------------------------------------------------------------------------------

    def _keep(self, event: Received) -> None:
        """Keeps a message until the records are read, or gives it back. A standby's first one hints at a free lease."""
        self._stash.append(event)
        if len(self._stash) == 1 and self.lease is LeaseState.STANDBY:
            self._ask(self._acquire())

    def _acquire(self) -> Acquire:
        return Acquire(self._watch.lapsed(self._context.now.seconds))

    def _ask(self, effect: Acquire | Renew) -> None:
        """Asks for the lease, unless a question is open: while the record store is away, the runtime retries it."""
        if not self._is_asking:
            self._is_asking = True
            self._context.emit(effect)

    def _acquired(self, term: int) -> None:
        if self.lease is not LeaseState.STANDBY:
            return
        self._insisted = False
        self._context.term = term
        self.renewed_at = self._context.now.wall
        self._load()

    def _not_acquired(self) -> None:
        """Gives messages back that the broker has delivered here although another reducer holds the lease.

        Asks for the lease once more before that, half a second later: the holder may just have crashed.
        """
        if self.lease is not LeaseState.STANDBY or not self._stash:
            return
        self._insisted = not self._insisted
        if self._insisted:
            self._context.emit(StartTimer("lease", LEASE_HINT_PERIOD))
            return
        self._stand_by()

    def _load(self) -> None:
        """Reads the records, on which all decisions under the new lease are based."""
        self.lease = LeaseState.LOADING
        self._is_broken = self._context.is_broken = False
        self._loading = Load()
        self._context.emit(self._loading)

    def _loaded(self, effect: Load, snapshot: Snapshot) -> None:
        if effect is not self._loading:
            return  # read under an earlier lease
        context, self._loading = self._context, None
        self.members.restore(snapshot.clients, snapshot.combiners, context.now.seconds)
        context.emit(
            *[ReadsJson(found) for found in [self.members.json_readers(self.members.clients)] if found],
            PublishEvent("reducer.active", data={"epoch": self.term}),
            StartTimer("presence", self._presence),
            StartTimer("lease", LEASE_PERIOD),
        )
        self.sessions.restore(snapshot)
        for combiner in self.members.combiners:
            self._inbox.welcome(combiner)
        for event in self._stash:
            self._received_before(event)
        self._stash.clear()
        self.lease = LeaseState.ACTIVE

    def _received_before(self, event: Received) -> None:
        """Handles a message that was kept. One on which an exception has ended the take-over before is rejected."""
        self._context.emit(Apart())
        name = event.envelope.id
        if name in self._suspects:
            self._context.emit(Reject(event.tag, "internal error: this message has ended a take-over by an exception"))
        else:
            self._suspects.add(name)
            self._inbox.received(event)
        self._suspects.discard(name)

    def _lose(self, effect: Effect) -> None:
        """Stands by because another reducer holds the lease, unless `effect` belongs to an earlier lease."""
        if self.lease is not LeaseState.STANDBY and getattr(effect, "term", self.term) == self.term:
            self._stand_by()

    def _stand_by(self) -> None:
        """Gives back the messages that this reducer holds, and waits for the lease."""
        self.lease, self._loading = LeaseState.STANDBY, None
        self.sessions.close()
        self._stash.clear()
        if not self._is_stopping:
            self._context.emit(Resubscribe(), StartTimer("lease", LEASE_PERIOD))

    def _failed(self, event: Failed) -> None:
        """Raises the error in the routine that waits for the effect.

        If no routine waits for it, decisions may have been dropped with it. So the error is published, and the reducer
        starts over. An effect of an earlier lease may be refused after many retries; nothing needs it any more.
        """
        effect, error = event.effect, event.error
        if effect is not self._loading and (self.lease is not LeaseState.ACTIVE or self._context.answer(event)):
            return
        if isinstance(effect, ClientWords):
            self._leave_out(effect, error)
        elif isinstance(effect, ChangeSession) and isinstance(effect.change, SessionEnd):
            self.sessions.end_without_reason(effect.session, effect.change)
        if self._is_broken or isinstance(effect, ClientWords):
            return
        if isinstance(effect, Publish):
            if isinstance(effect.body, messages.Plan):
                self.sessions.fail(effect.body.plan.session, error)
        elif effect is self._loading or self._is_needed(effect):
            reason = f"{type(effect).__name__} is refused: {error.reason}"
            self._context.emit(PublishEvent("actor.error", data={"reason": reason}))
            self._note_error(reason, session_of(event))

    def _is_needed(self, effect: Effect) -> bool:
        """Returns whether effects of this term may have been dropped with this one, and nothing repeats them."""
        is_asked = isinstance(effect, Question)  # by a routine that is closed
        is_alone = isinstance(effect, Perform) and effect.independent
        return not is_asked and not is_alone and getattr(effect, "term", self.term) == self.term

    def _leave_out(self, effect: ClientWords, error: FedMQError) -> None:
        """Goes on without what the record store refuses. A message that has brought it becomes a dead letter."""
        match effect:
            case RecordClients(records=clients, is_known=False):
                for client in clients:
                    self.members.leave_out(client)
            case RecordValidations(records=validations):
                for validation in validations:
                    self.sessions.leave_out(validation)
            case RecordLateValidation():
                pass
            case _:
                reason = f"{type(effect).__name__} is refused: {error.reason}"
                self._context.emit(PublishEvent("actor.error", data={"reason": reason}))

    def _broken(self, broken: Broken) -> None:
        """Ends the session that the event belongs to, and reads the records of all others. Without one, starts over.

        An exception in the answer to one message that has ended no course costs that message alone.
        """
        event, reason = broken.event, broken.error.reason
        if event == Fired("lease"):
            self._context.emit(StartTimer("lease", LEASE_PERIOD))
        if isinstance(event, Received) and not self._context.is_broken:
            return
        name = session_of(event)
        if name is None or self.lease is not LeaseState.ACTIVE or self._is_stopping:
            self._note_error(reason)
            return
        self.sessions.give_up(name, reason)
        self._stash.clear()
        self._context.emit(Resubscribe())
        self._load()

    def _note_error(self, error: str, session: str | None = None) -> None:
        if not self._is_broken:
            self._is_broken = True
            self.sessions.note_error(error, session)

    def _start_over(self) -> None:
        """Gives up the lease and stands by.

        The reducer that takes the lease next, this one or another, reads the records and receives the messages that are
        given back. So a bug, or a record that is refused, costs no more than a crash.
        """
        self._context.emit(Release(self.term))
        self._stand_by()

    def _fired(self, event: Fired) -> None:
        if event.key == "lease":
            self._renew()
        elif self.lease is not LeaseState.ACTIVE:
            return
        elif event.key == "presence":
            self._context.emit(*self.members.expire(self._context.now))
            self._inbox.rehome()
            self._context.emit(StartTimer("presence", self._presence))
            expired = self.members.expire_inboxes(self.sessions.has_open_plan, self._context.now)
            if expired:  # only while the lease is held: a combiner may have returned since it was lost
                self._context.emit(CheckLease(self.term), *expired)
        else:
            self.sessions.fired(event)

    def _renew(self) -> None:
        """Asks for the lease, or prolongs it. Starts over here after an error, whose cause may have gone by now."""
        is_standby = self.lease is LeaseState.STANDBY
        left = self._watch.left(self._context.now.seconds) if is_standby else 0.0
        period = max(left, LEASE_HINT_PERIOD) if left > 0 else LEASE_PERIOD
        self._context.emit(StartTimer("lease", min(period, LEASE_PERIOD)))
        if self._is_broken and not is_standby:
            self._start_over()
        else:
            self._ask(self._acquire() if is_standby else Renew(self.term))
