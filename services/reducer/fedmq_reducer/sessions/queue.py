"""The queue of sessions: how they begin and end, and which session an event reaches. Pure.

The session at the head of the queue has a routine that takes its course. What must be answered wherever that course stands,
as a stop, a partial that is delivered again or a combiner's hello, is answered here, from data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from fedmq.codec import explain
from fedmq.errors import FedMQError
from fedmq.runtime.effects import Ack, CancelTimer, Fired, Publish, PublishEvent, Received, Reject
from fedmq.runtime.routines import Course, Routine
from fedmq_reducer.operations import ChangeSession, CheckLease, Delete, RecordSession, SessionSnapshot, Snapshot
from fedmq_reducer.sessions import windows
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.events import CombinersChanged, Ended, MembersChanged, ValidationCounted
from fedmq_reducer.sessions.reactions import new_answer, publish_open_plans
from fedmq_reducer.sessions.recording import session_record
from fedmq_reducer.sessions.resuming import resume
from fedmq_reducer.sessions.schedules import schedule_for
from fedmq_reducer.sessions.session import Session, Stage, random_seed_of
from fedmq_reducer.sessions.steps import expiring
from fedmq_schemas import messages, topology
from fedmq_schemas.keys import model_id
from fedmq_schemas.messages import Partial
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import ENDED, SessionChange, SessionEnd

MOST_ERRORS = 3
"""How often the same round may end by a bug, or by a record that is refused, before its session fails."""
IN_ROUND = (Stage.DRAWING, Stage.RUNNING, Stage.COMMITTING)


class Sessions:
    """All sessions that have not ended, in their order; the first one runs."""

    def __init__(self, context: ReducerContext) -> None:
        self._context = context
        self._sessions: dict[str, Session] = {}
        self._starting: dict[str, Session] = {}
        self._routines: dict[str, Routine] = {}
        self._next_position = 0
        self._errors: dict[tuple[str, int], list[str]] = {}

    @property
    def current(self) -> Session | None:
        return next(iter(self._sessions.values()), None)

    def waits(self) -> dict[str, str]:
        """Returns for each session under way where its course stands and what it waits for."""
        return {name: routine.where() for name, routine in self._routines.items()}

    # -- beginning --------------------------------------------------------------------------------------------------

    def start(self, event: Received, name: str, policy: Policy) -> None:
        """Queues the session of a start message, which may be delivered again."""
        if name in self._sessions or name in self._starting:
            self._context.emit(CheckLease(self._context.term), Ack((event.tag,)))
            return
        session = Session(name, policy, self._next_position, random_seed_of(policy, name))
        self._next_position += 1
        self._starting[name] = session
        self._begin(name, self._queue(session, event))

    async def _queue(self, session: Session, event: Received) -> None:
        """Records the session and appends it to the queue. A record that is there already is our own insert tried again, or
        that of a session which has ended since the message was first delivered."""
        context, name = self._context, session.name
        recording = RecordSession(session_record(session, context.now), context.term)
        try:
            existing = await context.ask(recording, Ack((event.tag,)))
        except FedMQError as error:
            context.emit(*session.ending.take_stops())
            refused = {"reason": error.reason, "sender": event.envelope.sender}
            context.emit(PublishEvent("session.refused", name, data=refused), Reject(event.tag, error.reason))
            return
        finally:
            del self._starting[name], self._routines[name]
        if existing is not None and existing.state in ENDED:
            context.emit(*session.ending.take_stops())
            return
        self._sessions[name] = session
        data = {"policy": session.policy.model_dump(mode="json"), "position": session.position}
        context.emit(PublishEvent("session.queued", name, data=data, id=f"queued-{name}"))
        if session.ending.stopped:
            self._end(session, Stage.STOPPED, session.ending.stopped)
            context.emit(*session.ending.take_stops())
        self._begin_next()

    def _begin_next(self) -> None:
        session = self.current
        if session is not None and session.name not in self._routines:
            self._begin(session.name, self._run(session))

    def _begin(self, name: str, course: Course) -> None:
        self._routines[name] = routine = Routine(self._context, course)
        routine.start()

    async def _run(self, session: Session) -> None:
        course = schedule_for(session.policy)
        try:
            self._end(session, Stage.FINISHED, await course(self._context, session))
        except Ended as ended:
            self._end(session, ended.stage, ended.reason)
        except FedMQError as error:
            self._end(session, Stage.FAILED, error.reason)
        self._begin_next()

    # -- ending -----------------------------------------------------------------------------------------------------

    def stop(self, event: Received, body: messages.Stop) -> None:
        """Ends a session now or after its round. A round whose record is on its way is not given up: the session ends with
        that round."""
        context, name = self._context, body.session
        session = self._sessions.get(name) or self._starting.get(name)
        reason = f"stopped by {event.envelope.sender}"
        if session is None:
            refused = f"there is no open session {name!r} to stop: it has ended, or never was"
            context.emit(PublishEvent("message.refused", data={"reason": refused}), CheckLease(context.term))
        elif session.stage is Stage.COMMITTING or (body.when == "after_round" and session.stage in IN_ROUND):
            if body.when == "now":
                session.ending.stopped = reason
            session.ending.after_round = True
            context.emit(ChangeSession(name, SessionChange(stop_after_round=True), context.term))
        elif name in self._starting:  # its end is recorded as soon as the session is
            session.ending.stopped = reason
            session.ending.stops.append(event.tag)
            return
        else:
            self._break_off(session, Ended(Stage.STOPPED, reason))
        context.emit(Ack((event.tag,)))

    def fail(self, name: str, error: FedMQError) -> None:
        """Ends a session for which an effect was refused for good that its routine does not wait for."""
        if session := self._sessions.get(name):
            self._break_off(session, Ended(Stage.FAILED, error.reason))

    def _break_off(self, session: Session, ended: Ended) -> None:
        """Ends a session wherever its course stands, or before it has begun."""
        if routine := self._routines.get(session.name):
            routine.interrupt(ended)
        else:
            self._end(session, ended.stage, ended.reason)

    def _end(self, session: Session, stage: Stage, reason: str) -> None:
        context, name = self._context, session.name
        del self._sessions[name]
        self._routines.pop(name, None)
        session.stage = stage
        model = model_id(session.lineage.model.key) if session.lineage.model else None
        end = self._ending(stage, reason, session.round - 1, model)
        context.emit(*session.take_deferred())
        windows.record_summaries(context, session)
        context.emit(ChangeSession(name, end, context.term))
        if session.attempt is not None:
            context.emit(*session.attempt.take_completed_by())
        context.emit(*(Ack((event.tag,)) for _, event in session.take_early()))
        self._announce(name, session.policy.model_dump(mode="json"), end)
        context.emit(*(CancelTimer(f"{kind}:{name}") for kind in ("round", "wait", "score", "window")))

    def _ending(self, stage: Stage, reason: str, number: int, model: str | None) -> SessionEnd:
        """Returns what the record of a session says from its end on. `number`: its last committed round; `model`: that
        round's, or the seed."""
        state = stage.recorded
        assert state in ENDED
        return SessionEnd(
            state=state, reason=reason, round=number, model=model, announced=False, ended_at=self._context.now.wall,
            waiting="", waiting_until=None,
        )  # fmt: skip

    def _announce(self, name: str, policy: Mapping[str, Any], end: SessionEnd) -> None:
        """Reports a recorded end, also to combiners, which then forget the session, and expires what it does not keep. May
        be done again."""
        context = self._context
        data = {"reason": end.reason, "model": end.model}
        void = messages.VoidPlan(epoch=context.term, session=name)
        context.emit(
            PublishEvent(f"session.{end.state}", name, end.round, data=data, id=f"ended-{name}"),
            *(Publish("task", topology.plan_key(combiner), void) for combiner in context.members.combiners),
            *expiring.after_end(name, policy, end.round, context.term),
            ChangeSession(name, SessionChange(announced=True), context.term),
        )

    # -- events -----------------------------------------------------------------------------------------------------

    def partial(self, event: Received, body: Partial) -> None:
        """Hands a new answer to the session's routine. Raises RuntimeError if that does not wait for it: an open part whose
        answer nobody collects is a bug."""
        session = self._sessions.get(body.plan.session)
        answer = new_answer(self._context, session, event, body)
        if answer is not None and not self._offer(session, answer):
            raise RuntimeError(f"nobody waits for the partial of {body.plan}, which is open")

    def validation(self, event: Received, body: messages.Validation) -> None:
        """Records a validation, and lets the session's routine look whether it has waited for it."""
        session = self._sessions.get(body.plan.session)
        windows.receive(self._context, session, event, body)
        self._offer(session, ValidationCounted())

    def fired(self, event: Fired) -> None:
        """Hands a timer, whose key is KIND:SESSION, to the session's routine."""
        self._offer(self._sessions.get(event.key.partition(":")[2]), event)

    def members_changed(self) -> None:
        """Lets the running session look whether enough clients are there, or nobody is waited for any more."""
        self._offer(self.current, MembersChanged())

    def combiners_changed(self) -> None:
        """Lets the running session look whether plans of vanished combiners can be made again."""
        self._offer(self.current, CombinersChanged())

    def _offer(self, session: Session | None, event: object) -> bool:
        """Returns whether the session's routine has waited for the event."""
        routine = self._routines.get(session.name) if session is not None else None
        return routine is not None and routine.offer(event)

    def publish_open_plans(self, combiner: str) -> None:
        """Publishes everything that is still open for a combiner that has said hello."""
        if session := self.current:
            publish_open_plans(self._context, session, combiner)

    # -- recovery ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends all routines where they wait and forgets their sessions. The lease is lost, or the records are read again."""
        for routine in list(self._routines.values()):
            routine.close()
        self._routines.clear()
        self._sessions.clear()
        self._starting.clear()

    def restore(self, snapshot: Snapshot) -> None:
        """Goes on where the records end."""
        self.close()
        self._next_position = snapshot.next_position
        self._context.emit(Delete(self._context.term))
        for ended in snapshot.unannounced:
            self._announce(ended.session, ended.policy, SessionEnd.of(ended))
        found: list[SessionSnapshot] = []
        for each in snapshot.sessions:
            try:
                session = Session.restored(each.session)
            except ValidationError as error:
                self._give_up(each, explain(error))
            else:
                self._sessions[session.name] = session
                found.append(each)
        if found and found[0].session.state != "queued":
            session = self._sessions[found[0].session.session]
            resume(self._context, session, found[0])
            self._end_if_hopeless(session)
        self._begin_next()

    def note_error(self, error: str) -> None:
        """Notes that the running session has to be restored from its records."""
        if session := self.current:
            self._errors.setdefault((session.name, session.round), []).append(error)

    def _end_if_hopeless(self, session: Session) -> None:
        """Ends a session that the same round has broken several times: it would never end by itself."""
        errors = self._errors.get((session.name, session.round), [])
        if len(errors) >= MOST_ERRORS:
            reason = f"an error in round {session.round} has come {len(errors)} times: {errors[-1]}"
            self._end(session, Stage.FAILED, reason)

    def _give_up(self, found: SessionSnapshot, fault: str) -> None:
        """Ends a session of a version whose policies this one does not read."""
        record, newest = found.session, found.rounds[-1] if found.rounds else None
        model = record.seed if newest is None else model_id(newest.model.key)
        reason = f"this version does not read its policy ({fault}): start a session from its last model"
        end = self._ending(Stage.FAILED, reason, newest.round if newest else 0, model)
        self._context.emit(ChangeSession(record.session, end, self._context.term))
        self._announce(record.session, Policy().model_dump(mode="json"), end)
