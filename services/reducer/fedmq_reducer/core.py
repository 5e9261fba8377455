"""The reducer's decisions. Pure.

One reducer decides at a time: the one that holds the lease. The others stand by and keep what they receive unsettled. A
reducer that finds that its lease was taken gives its messages back and stands by. Whoever takes the lease reads the
records first, then says `welcome` to every combiner, which answers with all that it knows.
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
from fedmq.errors import FedMQError, Fenced
from fedmq_reducer import operations
from fedmq_reducer.assignment import Assignment
from fedmq_reducer.operations import (
    Acquire,
    Aggregate,
    CheckLease,
    Insert,
    Load,
    OpenSeed,
    Release,
    Renew,
    Snapshot,
    TellLedger,
)
from fedmq_reducer.planning import Desk
from fedmq_reducer.sessions import Sessions
from fedmq_schemas import messages, records, topology

LEASE_PERIOD = 3.0
LEASE_HINT_PERIOD = 0.5


class LeaseState(Enum):
    STANDBY = "standby"
    LOADING = "loading"
    ACTIVE = "active"


TRANSITIONS: dict[LeaseState, frozenset[LeaseState]] = {
    LeaseState.STANDBY: frozenset({LeaseState.LOADING}),
    LeaseState.LOADING: frozenset({LeaseState.ACTIVE, LeaseState.STANDBY}),
    LeaseState.ACTIVE: frozenset({LeaseState.STANDBY}),
}


class ReducerCore:
    """`assignment` knows clients and combiners, `presence` is its period in seconds."""

    def __init__(self, assignment: Assignment, *, presence: float) -> None:
        self.role = LeaseState.STANDBY
        self.epoch = 0
        self.assignment = assignment
        self._desk = Desk(assignment)
        self.sessions = Sessions(self._desk)
        self._presence = presence
        self._stash: list[Received] = []
        self._insisted = False
        self._is_asking = False

    def handle(self, event: CoreEvent, moment: Now) -> Sequence[Effect]:
        if isinstance(event, Done | Failed) and isinstance(event.effect, Acquire | Renew):
            self._is_asking = False
        match event:
            case Received():
                if self.role is LeaseState.ACTIVE:
                    return self._received(event, moment)
                self._stash.append(event)
                is_hint = len(self._stash) == 1 and self.role is LeaseState.STANDBY
                return self._ask(Acquire()) if is_hint else ()
            case Done(effect=effect, result=result):
                return self._done(effect, result, moment)
            case Failed(effect=effect, error=Fenced()):
                return self._lose(effect)
            case Failed(effect=effect, error=error):
                return self._failed(effect, error, moment)
            case Fired(key):
                return self._fired(key, moment)
            case Started():
                return [StartTimer("lease", LEASE_PERIOD), *self._ask(Acquire())]
            case Reconnected():
                self._stash.clear()
            case Stopping():
                return [*([Release(self.epoch)] if self.role is LeaseState.ACTIVE else ()), Drained()]
        return ()

    def _failed(self, effect: Effect, error: FedMQError, moment: Now) -> Sequence[Effect]:
        """Ends the session that needs the effect. One of an earlier reign, tried again all the while, may fail for what has
        happened since: nobody waits for it."""
        session = _session_of(effect)
        if session is None or self.role is not LeaseState.ACTIVE:
            return ()
        if isinstance(effect, OpenSeed | Aggregate) and not self.sessions.waits_for(effect):
            return ()
        return self.sessions.failed(session, error, moment)

    # -- the lease --------------------------------------------------------------------------------------------------

    def _ask(self, effect: Acquire | Renew) -> list[Effect]:
        """One question at a time: while the records are away it is tried again by itself."""
        if self._is_asking:
            return []
        self._is_asking = True
        return [effect]

    def _done(self, effect: Effect, result: object, moment: Now) -> Sequence[Effect]:
        match effect:
            case Acquire():
                return self._acquired(result)
            case Load():
                assert isinstance(result, Snapshot)
                return self._loaded(result, moment)
            case Renew(epoch):
                return self._lose(effect) if not result and epoch == self.epoch else ()
        if self.role is not LeaseState.ACTIVE:
            return ()
        match effect, result:
            case OpenSeed(), operations.OpenedSeed():
                return self.sessions.seed_opened(effect, result, moment)
            case Aggregate(), operations.Aggregated():
                return self.sessions.aggregated(effect, result, moment)
            case Insert(records.SESSIONS, key), _:
                return self.sessions.started(key, result, moment)  # type: ignore[arg-type]
            case Insert(records.ATTEMPTS, _, document), _:
                return self.sessions.attempt_recorded(document, result, moment)  # type: ignore[arg-type]
            case Insert(records.ROUNDS, _, document), _:
                return self.sessions.round_recorded(document, result, moment)  # type: ignore[arg-type]
        return ()

    def _acquired(self, epoch: object) -> Sequence[Effect]:
        if self.role is not LeaseState.STANDBY:
            return ()
        if not isinstance(epoch, int):
            return self._not_acquired()
        self._insisted = False
        self._move(LeaseState.LOADING)
        self.epoch = self._desk.epoch = epoch
        return [Load()]

    def _not_acquired(self) -> Sequence[Effect]:
        """Somebody else decides. If the broker sends its messages here all the same, they go back, and this reducer to the
        end of the line; a moment later, as the holder may just have died."""
        if not self._stash:
            return ()
        self._insisted = not self._insisted
        if self._insisted:
            return [StartTimer("lease", LEASE_HINT_PERIOD)]
        self._stash.clear()
        return [Resubscribe(), StartTimer("lease", LEASE_PERIOD)]

    def _loaded(self, snapshot: Snapshot, moment: Now) -> Sequence[Effect]:
        if self.role is not LeaseState.LOADING:
            return ()
        self._move(LeaseState.ACTIVE)
        self.assignment.restore(snapshot.clients, snapshot.combiners, moment.seconds)
        effects: list[Effect] = [
            PublishEvent("reducer.active", data={"epoch": self.epoch}),
            StartTimer("presence", self._presence),
            StartTimer("lease", LEASE_PERIOD),
        ]
        effects += self.sessions.restore(snapshot, moment)
        effects += [self._welcome(combiner) for combiner in self.assignment.combiners]
        stash, self._stash = self._stash, []
        for event in stash:
            effects += self._received(event, moment)
        return effects

    def _lose(self, effect: Effect) -> Sequence[Effect]:
        """Somebody else decides now; what this reducer holds goes back to the inbox."""
        if self.role is LeaseState.STANDBY or getattr(effect, "epoch", self.epoch) != self.epoch:
            return ()
        self._move(LeaseState.STANDBY)
        self._stash.clear()
        return [Resubscribe(), StartTimer("lease", LEASE_PERIOD)]

    def _move(self, role: LeaseState) -> None:
        if role not in TRANSITIONS[self.role]:
            raise ValueError(f"a reducer can't go from {self.role.value} to {role.value}")
        self.role = role

    def _fired(self, key: str, moment: Now) -> Sequence[Effect]:
        if key == "lease":
            wanted = Acquire() if self.role is LeaseState.STANDBY else Renew(self.epoch)
            return [StartTimer("lease", LEASE_PERIOD), *self._ask(wanted)]
        if self.role is not LeaseState.ACTIVE:
            return ()
        if key == "presence":
            lost = self.assignment.expire(moment)
            return [*lost, *self._rehome(moment), StartTimer("presence", self._presence)]
        kind, _, session = key.partition(":")
        return self.sessions.fired(kind, session, moment)

    # -- messages ---------------------------------------------------------------------------------------------------

    def _received(self, event: Received, moment: Now) -> list[Effect]:
        body, sender = event.body, event.envelope.sender
        match body:
            case messages.Partial():
                return self.sessions.partial(event, body, moment)
            case messages.Validation():
                return self.sessions.validation(event, body, moment)
            case messages.Attach():
                return self.assignment.attach(event, self.epoch, moment)
            case messages.CombinerPresence(leaving=True):
                left = self.assignment.combiner_left(sender, moment)
                return [*left, *self._rehome(moment), Ack((event.tag,))]
            case messages.CombinerPresence():
                effects = self._combiner_said(sender, moment) + self.assignment.presence(sender, body, moment)
                if self.assignment.disagrees(sender, body):
                    effects += self._answer_hello(sender, moment)
                return [*effects, *self.sessions.members_changed(moment), Ack((event.tag,))]
            case messages.CombinerHello():
                return [*self._combiner_said(sender, moment), *self._answer_hello(sender, moment), Ack((event.tag,))]
            case messages.Start(policy=policy):
                return self.sessions.start(event, name_from_id(event.envelope.id), policy, moment)
            case messages.Stop():
                return self.sessions.stop(event, body, moment)
        return [Reject(event.tag, f"a reducer does not receive {body.kind} messages")]

    def _combiner_said(self, combiner: str, moment: Now) -> list[Effect]:
        effects = self.assignment.combiner_said(combiner, moment)
        if not effects:
            return []
        return [*effects, *self.assignment.serve_waiting(self.epoch, moment), *self._rehome(moment)]

    def _rehome(self, moment: Now) -> list[Effect]:
        moved, effects = self.assignment.rehome(self.epoch)
        return [*effects, *self.sessions.move_clients(moved, moment)]

    def _answer_hello(self, combiner: str, moment: Now) -> list[Effect]:
        """While the lease is still ours: a combiner that was welcomed does not ask again, and who lost the lease knows of no
        plan made since."""
        return [CheckLease(self.epoch), *self.sessions.open_plans(combiner, moment), self._welcome(combiner)]

    def _welcome(self, combiner: str) -> Publish:
        body = messages.Welcome(epoch=self.epoch, presence=self._presence)
        return Publish("task", topology.plan_key(combiner), body)


def _session_of(effect: Effect) -> str | None:
    """The session that an effect was asked for."""
    match effect:
        case Publish(body=messages.Plan(plan=plan)):
            return plan.session
        case Insert(document=document):
            return document.get("session")
        case OpenSeed(session=session) | Aggregate(session=session) | TellLedger(session=session):
            return session
    return None
