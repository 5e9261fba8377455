"""Sessions: a queue, and the one that runs. Pure.

This module says when a session begins, what follows a committed round, and how it ends; `rounds` and `validations` say
what happens within.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from fedmq.codec import explain
from fedmq.effects import Ack, CancelTimer, Effect, Now, Publish, PublishEvent, Received
from fedmq.errors import FedMQError
from fedmq_reducer import retention
from fedmq_reducer.documents import end_fields, session_document
from fedmq_reducer.operations import (
    Aggregate,
    Aggregated,
    Change,
    CheckLease,
    Delete,
    Insert,
    OpenedSeed,
    OpenSeed,
    SessionSnapshot,
    Snapshot,
)
from fedmq_reducer.planning import Desk
from fedmq_reducer.rounds import Rounds
from fedmq_reducer.selection import reason_to_stop
from fedmq_reducer.session import Session, State, model_id, random_seed_of
from fedmq_reducer.validations import Validations
from fedmq_schemas import messages, records, topology
from fedmq_schemas.messages import BlobRef, Partial
from fedmq_schemas.policy import Policy

IN_ROUND = (State.DRAWING, State.RUNNING, State.COMMITTING)


class Sessions:
    """All sessions that have not ended, in their order; the first one runs."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rounds = Rounds(desk)
        self._validations = Validations(desk)
        self._sessions: dict[str, Session] = {}
        self._starting: dict[str, Session] = {}
        self._next_position = 0

    @property
    def current(self) -> Session | None:
        return next(iter(self._sessions.values()), None)

    # -- beginning --------------------------------------------------------------------------------------------------

    def start(self, event: Received, name: str, policy: Policy, moment: Now) -> list[Effect]:
        if name in self._sessions or name in self._starting:
            return [CheckLease(self._desk.epoch), Ack((event.tag,))]
        session = Session(name, policy, self._next_position, random_seed_of(policy, name))
        self._next_position += 1
        self._starting[name] = session
        document = session_document(session, moment)
        return [Insert(records.SESSIONS, name, document, self._desk.epoch), Ack((event.tag,))]

    def started(self, name: str, existing: Mapping[str, Any] | None, moment: Now) -> list[Effect]:
        """An existing document is of a start that was told again after the session's end, or our own insert tried again."""
        session = self._starting.pop(name, None)
        if session is None or (existing is not None and existing["state"] in records.ENDED):
            return []
        self._sessions[name] = session
        data = {"policy": session.policy.model_dump(mode="json"), "position": session.position}
        queued = PublishEvent("session.queued", name, data=data, id=f"queued-{name}")
        return self._judged(session, [queued], moment) if session.verdict else [queued, *self._begin_next()]

    def _begin_next(self) -> list[Effect]:
        session = self.current
        if session is None or session.state is not State.QUEUED:
            return []
        session.move(State.OPENING)
        weights = tuple(client.weight for client in session.chosen(self._desk.assignment.eligible("train")))
        policy = session.policy
        opening = OpenSeed(session.name, policy.seed, policy.strategy, weights, policy.tensors)
        return [*self._rounds.recorded(session), opening]

    def seed_opened(self, opening: OpenSeed, opened: OpenedSeed, moment: Now) -> list[Effect]:
        session = self._sessions.get(opening.session)
        if session is None or session.state is not State.OPENING:
            return []
        session.model, session.base, session.exponents = opened.model, opened.base, opened.exponents
        data = {"seed": opened.seed, "rounds": session.policy.rounds}
        session.started_at = moment.wall
        fields = {"seed": opened.seed, "base": _dumped(opened.base), "started_at": moment.wall}
        effects = [
            Change(records.SESSIONS, session.name, fields, self._desk.epoch),
            PublishEvent("session.started", session.name, data=data, id=f"started-{session.name}"),
            *self._plan(session, moment),
        ]
        return self._judged(session, effects, moment)

    # -- ending -----------------------------------------------------------------------------------------------------

    def stop(self, event: Received, body: messages.Stop, moment: Now) -> list[Effect]:
        session = self._sessions.get(body.session) or self._starting.get(body.session)
        if session is None:
            reason = f"there is no open session {body.session!r} to stop: it has ended, or never was"
            told = PublishEvent("message.refused", data={"reason": reason})
            return [told, CheckLease(self._desk.epoch), Ack((event.tag,))]
        reason = f"stopped by {event.envelope.sender}"
        if session.state is State.COMMITTING or (body.when == "after_round" and session.state in IN_ROUND):
            if body.when == "now":  # the round's record is on its way: the session ends with that round, not before it
                session.stopped = reason
            session.stop_after_round = True
            change = Change(records.SESSIONS, session.name, {"stop_after_round": True}, self._desk.epoch)
            return [change, Ack((event.tag,))]
        session.verdict = (State.STOPPED, reason)
        return self._judged(session, [], moment) + [Ack((event.tag,))]

    def waits_for(self, effect: OpenSeed | Aggregate) -> bool:
        """Whether the effect's session can't go on without it."""
        session = self._sessions.get(effect.session)
        if session is None:
            return False
        if isinstance(effect, OpenSeed):
            return session.state is State.OPENING
        return session.state is State.COMMITTING and session.round == effect.round

    def failed(self, name: str, error: FedMQError, moment: Now) -> list[Effect]:
        """An effect of the session was refused for good."""
        session = self._sessions.get(name)
        if session is None:
            return []
        session.verdict = (State.FAILED, error.reason)
        return self._judged(session, [], moment)

    def _judged(self, session: Session, effects: list[Effect], moment: Now) -> list[Effect]:
        """The effects, and the session's end if it has a verdict."""
        if session.verdict is None or session.name not in self._sessions:
            return effects
        state, reason = session.verdict
        session.move(state)
        del self._sessions[session.name]
        model = model_id(session.model) if session.model else None
        end = end_fields(state, reason, session.round - 1, model, moment)
        return [
            *effects,
            *self._validations.summarise_all(session),
            Change(records.SESSIONS, session.name, end, self._desk.epoch),
            *(session.attempt.settled() if session.attempt is not None else ()),
            *self._announce(session.name, session.policy.model_dump(mode="json"), end),
            *(CancelTimer(f"{kind}:{session.name}") for kind in ("round", "wait", "score", "window")),
            *self._begin_next(),
        ]

    def _announce(self, name: str, policy: Mapping[str, Any], end: Mapping[str, Any]) -> list[Effect]:
        """Tells a recorded end, to combiners so that they forget the session, and lets go what it does not keep. May be
        done again."""
        data = {"reason": end["reason"], "model": end["model"]}
        void = messages.VoidPlan(epoch=self._desk.epoch, session=name)
        return [
            PublishEvent(f"session.{end['state']}", name, end["round"], data=data, id=f"ended-{name}"),
            *(Publish("task", topology.plan_key(combiner), void) for combiner in self._desk.assignment.combiners),
            *retention.after_end(name, policy, end["round"], self._desk.epoch),
            Change(records.SESSIONS, name, {"announced": True}, self._desk.epoch),
        ]

    # -- what happens in between ------------------------------------------------------------------------------------

    def attempt_recorded(
        self, document: Mapping[str, Any], existing: Mapping[str, Any] | None, moment: Now
    ) -> list[Effect]:
        session = self._sessions.get(document["session"])
        if session is None:
            return []
        effects = self._rounds.attempt_recorded(session, existing, moment)
        return [*effects, *self._validations.ask(session, moment)] if effects else []

    def partial(self, event: Received, body: Partial, moment: Now) -> list[Effect]:
        session = self._sessions.get(body.plan.session)
        effects = self._rounds.partial(session, event, body, moment)
        return self._judged(session, effects, moment) if session is not None else effects

    def aggregated(self, request: Aggregate, result: Aggregated, moment: Now) -> list[Effect]:
        session = self._sessions.get(request.session)
        return self._rounds.aggregated(session, request, result, moment) if session is not None else []

    def round_recorded(
        self, document: Mapping[str, Any], existing: Mapping[str, Any] | None, moment: Now
    ) -> list[Effect]:
        """A round is committed, by this reducer or by one before it: tell, then go on."""
        session = self._sessions.get(document["session"])
        if session is None or session.state is not State.COMMITTING or session.round != document["round"]:
            return []
        committed, parent = existing or document, session.model
        assert parent is not None
        settled = session.attempt.settled() if session.attempt is not None else []
        effects = [*settled, *self._rounds.tell_committed(session, committed)]
        self._rounds.adopt_round(session, committed)
        effects += self._validations.settle_older(session, parent, moment)
        ledger = self._rounds.tell_ledger(committed)
        superfluous = retention.after_commit(session, self._desk.epoch)
        following = self._judged(session, self._after_round(session, moment), moment)
        # The next draw does not wait for what only readers need.
        told = [ledger, *superfluous]
        return [*effects, *following, *told] if session.is_drawing else [*effects, *told, *following]

    def _after_round(self, session: Session, moment: Now) -> list[Effect]:
        assert session.model is not None
        if session.stopped:
            session.verdict = (State.STOPPED, session.stopped)
            return []
        if session.is_last:
            return self._open_window(session, moment)
        if session.stop_after_round:
            session.verdict = (State.STOPPED, "stopped after the round")
            return []
        if not session.is_scored:
            asked = self._validations.open_scoring(session, moment)
            return [*asked, *self._scored(session, self._validations.score_if_complete(session), moment)]
        return self._begin_round(session, moment)

    def _scored(self, session: Session, effects: list[Effect], moment: Now) -> list[Effect]:
        """Goes on if the effects are those that record the score."""
        return [*effects, *self._begin_round(session, moment)] if effects else []

    def _begin_round(self, session: Session, moment: Now) -> list[Effect]:
        """The next round, or the end if the policy's conditions for one are met. What is recorded decides, so a reducer that
        takes over here decides the same."""
        assert session.model is not None
        stop = session.policy.stop
        if session.score is not None:
            session.early = reason_to_stop(session.score, stop)
        if stop.max_time is not None and moment.wall - (session.started_at or moment.wall) >= stop.max_time:
            session.early = session.early or f"{stop.max_time:g} s are over"
        if session.early:
            return self._open_window(session, moment)
        return self._plan(session, moment)

    def _plan(self, session: Session, moment: Now) -> list[Effect]:
        """The next draw. Validations of the model are asked for when the tasks to train on it are out; if the round waits
        for clients, at once."""
        effects = self._rounds.plan(session, moment)
        return effects if session.is_drawing else [*effects, *self._validations.ask(session, moment)]

    def _open_window(self, session: Session, moment: Now) -> list[Effect]:
        effects = self._validations.open_window(session, moment)
        return [*effects, *self._rounds.recorded(session)]

    def validation(self, event: Received, body: messages.Validation, moment: Now) -> list[Effect]:
        session = self._sessions.get(body.plan.session)
        effects = self._validations.received(event, body, session, moment)
        if session is None:
            return effects
        if session.state is State.SCORING:
            effects += self._scored(session, self._validations.score_if_complete(session), moment)
        return self._judged(session, effects, moment)

    def fired(self, kind: str, name: str, moment: Now) -> list[Effect]:
        session = self._sessions.get(name)
        if session is None:
            return []
        effects: list[Effect] = []
        if kind == "wait" and session.state is State.WAITING:
            session.verdict = (State.FAILED, f"gave up {session.waiting} after {session.policy.wait:g} s")
        elif kind == "window" and session.state is State.VALIDATING:
            session.verdict = (State.FINISHED, session.early)
        elif kind == "score" and session.state is State.SCORING:
            effects = self._scored(session, self._validations.score(session), moment)
        elif kind == "round":
            effects = self._rounds.overdue(session, moment)
        return self._judged(session, effects, moment)

    def open_plans(self, combiner: str, moment: Now) -> list[Effect]:
        """Everything that is still open for a combiner that has said hello."""
        session = self.current
        if session is None:
            return []
        return [
            *self._rounds.send_open(session, combiner, moment),
            *self._validations.send_open(session, combiner, moment),
        ]

    def members_changed(self, moment: Now) -> list[Effect]:
        session = self.current
        if session is None:
            return []
        if session.state is State.SCORING:
            effects = self._scored(session, self._validations.score_if_complete(session), moment)
            return self._judged(session, effects, moment)
        return (
            self._judged(session, self._rounds.plan(session, moment), moment) if session.state is State.WAITING else []
        )

    def move_clients(self, moved: Mapping[str, str], moment: Now) -> list[Effect]:
        session = self.current
        return self._rounds.move_clients(session, moved, moment) if moved and session is not None else []

    # -- recovery ---------------------------------------------------------------------------------------------------

    def restore(self, snapshot: Snapshot, moment: Now) -> list[Effect]:
        """Goes on where the records say that the last reducer was."""
        self._sessions.clear()
        self._starting.clear()
        self._next_position = snapshot.next_position
        effects: list[Effect] = [Delete(self._desk.epoch)]
        for end in snapshot.unannounced:
            effects += self._announce(end["session"], end["policy"], end)
        found: list[SessionSnapshot] = []
        for each in snapshot.sessions:
            try:
                session = Session.remembered(each.session)
            except ValidationError as error:
                effects += self._give_up(each, explain(error), moment)
            else:
                self._sessions[session.name] = session
                found.append(each)
        if found and found[0].session["state"] != "queued":
            session = self._sessions[found[0].session["session"]]
            effects += self._judged(session, self._resume(session, found[0], moment), moment)
        return effects + self._begin_next()

    def _give_up(self, found: SessionSnapshot, fault: str, moment: Now) -> list[Effect]:
        """Ends a session of a version whose policies this one does not read."""
        name, newest = found.session["session"], found.rounds[-1] if found.rounds else None
        model = found.session["seed"] if newest is None else model_id(BlobRef.model_validate(newest["model"]))
        reason = f"this version does not read its policy ({fault}): start a session from its last model"
        end = end_fields(State.FAILED, reason, newest["round"] if newest else 0, model, moment)
        return [
            Change(records.SESSIONS, name, end, self._desk.epoch),
            *self._announce(name, Policy().model_dump(mode="json"), end),
        ]

    def _resume(self, session: Session, found: SessionSnapshot, moment: Now) -> list[Effect]:
        session.validated = {model: dict(clients) for model, clients in found.validations.items()}
        session.began_at = moment.seconds
        effects: list[Effect] = []
        for committed in found.rounds:
            self._rounds.adopt_round(session, committed)
            assert session.model is not None
            if committed["round"] not in found.expired_rounds:
                self._validations.reopen(session, committed["round"], committed["committed_at"])
        if found.rounds:
            effects += [
                *self._rounds.tell_committed(session, found.rounds[-1]),
                self._rounds.tell_ledger(found.rounds[-1]),
            ]
        if found.attempts:
            self._rounds.adopt_attempt(session, found.attempts[-1])
        if session.model is None:
            return effects
        if session.round == 1:
            self._validations.reopen(session, 0, session.started_at or moment.wall)
        effects += self._validations.ask_again(session, moment)
        if session.attempt is None:
            session.state = State.COMMITTING
            return effects + self._after_round(session, moment)
        session.state = State.RUNNING
        for document in found.partials:
            self._rounds.take_partial(session, Partial.model_validate(document["partial"]))
        effects += self._rounds.send_all(session, moment)
        return effects + self._rounds.commit_if_answered(session, moment)


def _dumped(ref: BlobRef | None) -> dict[str, Any] | None:
    return ref.model_dump() if ref is not None else None
