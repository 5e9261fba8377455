"""The queue of sessions: begins and ends sessions, and hands each event to its session. Pure.

The session at the head of the queue has a routine. Some messages must be answered whatever that routine waits for: a stop, a
redelivered partial, a combiner's hello. These are answered here, from data.
"""

from __future__ import annotations

from pydantic import ValidationError

from fedmq.codec import explain
from fedmq.errors import FedMQError
from fedmq.runtime.effects import Ack, Fired, PublishEvent, Received, Reject
from fedmq.runtime.routines import Course, Routine
from fedmq_reducer.operations import ChangeSession, CheckLease, ForgetSession, RecordSession
from fedmq_reducer.retention import Delete, SweepSession
from fedmq_reducer.sessions import ending, windows
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.events import CombinersChanged, Ended, MembersChanged, ValidationCounted
from fedmq_reducer.sessions.reactions import new_answer, publish_open_plans
from fedmq_reducer.sessions.recording import session_record
from fedmq_reducer.sessions.resuming import resume
from fedmq_reducer.sessions.session import Session, Stage, random_seed_of
from fedmq_reducer.sessions.synchronous import synchronous
from fedmq_reducer.snapshot import SessionSnapshot, Snapshot
from fedmq_schemas import messages
from fedmq_schemas.messages import Partial
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import ENDED, SessionChange, SessionEnd, ValidationRecord

MOST_ERRORS = 3
"""The number of errors (bugs, or records that are refused) in the same round after which its session fails."""
IN_ROUND = (Stage.DRAWING, Stage.RUNNING, Stage.COMMITTING)


class Sessions:
    """The sessions that have not ended, in order. The first one runs."""

    def __init__(self, context: ReducerContext) -> None:
        self._context = context
        self._sessions: dict[str, Session] = {}
        self._starting: dict[str, Session] = {}
        self._routines: dict[str, Routine] = {}
        self._next_position = 0
        self._errors: dict[tuple[str, int], list[str]] = {}
        self._given_up: dict[str, str] = {}

    @property
    def current(self) -> Session | None:
        """The session that runs, if there is one."""
        return next(iter(self._sessions.values()), None)

    def open_session(self, name: str) -> Session | None:
        """Returns the session of this name, if it has not ended."""
        return self._sessions.get(name)

    def waits(self) -> dict[str, str]:
        """Returns for each session under way where in the code its course stands, and what it waits for."""
        return {name: routine.where() for name, routine in self._routines.items()}

    # -- beginning --------------------------------------------------------------------------------------------------

    def start(self, event: Received, name: str, policy: Policy) -> None:
        """Queues the session of a start message. A message that is delivered again changes nothing."""
        if name in self._sessions or name in self._starting:
            self._context.emit(CheckLease(self._context.term), Ack((event.tag,)))
            return
        session = Session(name, policy, self._next_position, random_seed_of(policy, name))
        self._next_position += 1
        self._starting[name] = session
        self._begin(name, self._queue(session, event))

    async def _queue(self, session: Session, event: Received) -> None:
        """Records and queues the session. If a record exists, the insert was retried, or the session has ended."""
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
        try:
            self._end(session, Stage.FINISHED, await synchronous(self._context, session))
        except Ended as ended:
            self._end(session, ended.stage, ended.reason)
        except FedMQError as error:
            self._end(session, Stage.FAILED, error.reason)
        self._begin_next()

    # -- ending -----------------------------------------------------------------------------------------------------

    def stop(self, event: Received, body: messages.Stop) -> None:
        """Ends a session now or after its round. A round that is being committed is not given up."""
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
        elif name in self._starting:  # its end is recorded once the session is
            session.ending.stopped = reason
            session.ending.stops.append(event.tag)
            return
        else:
            self._break_off(session, Ended(Stage.STOPPED, reason))
        context.emit(Ack((event.tag,)))

    def forget(self, event: Received, name: str) -> None:
        """Deletes what is recorded of an ended session, except its ledger. Refuses a session that has not ended.

        May be repeated, also for a session that is forgotten already.
        """
        if not self._refuse_to_forget(event, name):
            self._begin(f"forget:{event.tag}", self._forget(event, name))

    def _refuse_to_forget(self, event: Received, name: str) -> bool:
        """Refuses the request if the session has not ended. Returns whether it did."""
        if name not in self._sessions and name not in self._starting:
            return False
        refused = f"session {name!r} has not ended and can't be forgotten: `fedmq stop {name}` ends it"
        self._context.emit(PublishEvent("message.refused", data={"reason": refused}), Ack((event.tag,)))
        return True

    async def _forget(self, event: Received, name: str) -> None:
        """Deletes blobs before records: a name that still has a record can be forgotten again after a crash."""
        context = self._context
        try:
            await context.ask(SweepSession(name))
        except FedMQError as error:
            context.emit(Reject(event.tag, error.reason))
            return
        finally:
            del self._routines[f"forget:{event.tag}"]
        if self._refuse_to_forget(event, name):  # it was started while the blobs were deleted
            return
        data = {"reason": f"asked for by {event.envelope.sender}"}
        forgotten = PublishEvent("session.forgotten", name, data=data)
        context.emit(ForgetSession(name, context.term), forgotten, Ack((event.tag,)))

    def fail(self, name: str, error: FedMQError) -> None:
        """Ends a session because an effect was refused that its routine does not wait for."""
        if session := self._sessions.get(name):
            self._break_off(session, Ended(Stage.FAILED, error.reason))

    def end_without_reason(self, name: str, refused: SessionEnd) -> None:
        """Records an end again whose record was refused, with a reason that holds nobody's words."""
        if refused.reason != ending.UNRECORDED:
            change = refused.model_copy(update={"reason": ending.UNRECORDED})
            self._context.emit(ChangeSession(name, change, self._context.term))

    def _break_off(self, session: Session, ended: Ended) -> None:
        """Ends a session whatever its routine waits for, or before it has begun."""
        if routine := self._routines.get(session.name):
            routine.interrupt(ended)
        else:
            self._end(session, ended.stage, ended.reason)

    def _end(self, session: Session, stage: Stage, reason: str) -> None:
        del self._sessions[session.name]
        self._routines.pop(session.name, None)
        ending.end(self._context, session, stage, reason)

    # -- events -----------------------------------------------------------------------------------------------------

    def partial(self, event: Received, body: Partial) -> None:
        """Hands a new answer to the session's routine. Raises RuntimeError if it does not wait: that is a bug."""
        session = self._sessions.get(body.plan.session)
        answer = new_answer(self._context, session, event, body)
        if answer is not None and not self._offer(session, answer):
            raise RuntimeError(f"nobody waits for the partial of {body.plan}, which is open")

    def validation(self, event: Received, body: messages.Validation) -> None:
        """Records a validation, and resumes the session's routine if it waits for validations."""
        session = self._sessions.get(body.plan.session)
        windows.receive(self._context, session, event, body)
        self._offer(session, ValidationCounted())

    def leave_out(self, refused: ValidationRecord) -> None:
        """Leaves the metrics of a validation out whose record is refused."""
        if session := self._sessions.get(refused.session):
            windows.leave_out(session, refused)

    def fired(self, event: Fired) -> None:
        """Hands a timer to the session's routine. Its key is `KIND:SESSION`."""
        self._offer(self._sessions.get(event.key.partition(":")[2]), event)

    def members_changed(self) -> None:
        """Resumes the running session if it waits for clients, or for answers of clients."""
        self._offer(self.current, MembersChanged())

    def combiners_changed(self) -> None:
        """Resumes the running session if it waits for partials: plans of vanished combiners may have to be made again."""
        self._offer(self.current, CombinersChanged())

    def _offer(self, session: Session | None, event: object) -> bool:
        """Resumes the session's routine if it waits for the event. Returns whether it did."""
        routine = self._routines.get(session.name) if session is not None else None
        return routine is not None and routine.offer(event)

    def publish_open_plans(self, combiner: str) -> None:
        """Publishes the plans that are open for a combiner, which has registered."""
        if session := self.current:
            publish_open_plans(self._context, session, combiner)

    def has_open_plan(self, combiner: str) -> bool:
        """Returns whether the running session waits for a partial of this combiner."""
        attempt = self.current.attempt if self.current is not None else None
        return attempt is not None and any(part.combiner == combiner for part in attempt.open_parts)

    # -- recovery ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Closes all routines and forgets all sessions, because the lease is lost or the records are read again."""
        for routine in list(self._routines.values()):
            routine.close()
        self._routines.clear()
        self._sessions.clear()
        self._starting.clear()

    def restore(self, snapshot: Snapshot) -> None:
        """Replaces all sessions by those of the records, and resumes the first one."""
        self.close()
        self._next_position = snapshot.next_position
        self._context.emit(Delete(self._context.term))
        for ended in snapshot.unannounced:
            ending.announce(self._context, ended.session, ended.policy, SessionEnd.of(ended))
        found: list[SessionSnapshot] = []
        for each in snapshot.sessions:
            try:
                session = Session.restored(each.session)
            except ValidationError as error:
                ending.end_unreadable(self._context, each, explain(error))
                continue
            if reason := self._given_up.get(session.name) or self._hopeless(each):
                ending.end_from_records(self._context, each, reason, each.session.policy)
            else:
                self._sessions[session.name] = session
                found.append(each)
        self._given_up.clear()
        if found and found[0].session.state != "queued":
            resume(self._context, self._sessions[found[0].session.session], found[0])
        self._begin_next()

    def give_up(self, name: str, reason: str) -> None:
        """Notes that a session is to be ended once the records are read again, because an event of it met a bug."""
        self._given_up[name] = reason

    def note_error(self, error: str, name: str | None = None) -> None:
        """Counts an error of the named session, or else of the running one. It is restored from its records."""
        if session := self._sessions.get(name) if name is not None else self.current:
            self._errors.setdefault((session.name, session.round), []).append(error)

    def _hopeless(self, found: SessionSnapshot) -> str:
        """Returns why a session is to be ended that has met several errors in the same round; else an empty text."""
        number = found.rounds[-1].round + 1 if found.rounds else 1
        errors = self._errors.get((found.session.session, number), [])
        if len(errors) < MOST_ERRORS:
            return ""
        return f"an error in round {number} has come {len(errors)} times: {errors[-1]}"
