"""The step that draws the clients of an attempt, once enough clients are present. Pure."""

from __future__ import annotations

from collections.abc import Collection

from fedmq.runtime.effects import CancelTimer, Effect, Fired, PublishEvent, StartTimer
from fedmq_reducer.members.client_member import ClientMember
from fedmq_reducer.operations import RecordAttempt
from fedmq_reducer.sessions import windows
from fedmq_reducer.sessions.attempt import Attempt, group_by_combiner
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.events import Ended, MembersChanged
from fedmq_reducer.sessions.recording import attempt_record, record_standing
from fedmq_reducer.sessions.session import Session, Stage


async def draw(context: ReducerContext, session: Session) -> Attempt:
    """Draws the clients of the next attempt, records the draw, and returns the open attempt.

    Waits while too few clients are present. Raises Ended if that takes too long, or if the drawn clients are at several
    combiners and the session's rule does not compose over combiners.
    """
    eligible = await _enough_clients(context, session)
    moves = _rebalance(context, session)
    session.stage = Stage.DRAWING
    session.attempts += 1
    session.attempt = None
    session.standing.waiting, session.standing.waiting_until = "", None
    if session.attempts == 1:
        session.began_at, session.resumed_at = context.now.seconds, None
    groups = group_by_combiner(session.draw(eligible), {client.name: client.combiner for client in eligible})
    check_combiners(context, session, groups)
    drawn = Attempt(session.attempts, session.new_parts(groups), context.now.wall)
    record = attempt_record(session, drawn, context.term)
    context.emit(CancelTimer(f"wait:{session.name}"))

    # The deferred effects follow, so that the draw does not wait for records that only readers need, nor for grants.
    existing = await context.ask(RecordAttempt(record, context.term), *session.take_deferred(), *moves)

    attempt = session.adopt_attempt(existing or record)
    session.stage = Stage.RUNNING
    data = {
        "attempt": attempt.number,
        "clients": sum(len(part.clients) for part in attempt.parts),
        "combiners": len(attempt.parts),
        "timeout": session.policy.timeout,
    }
    event_id = f"planned-{attempt.parts[0].key}"
    context.emit(PublishEvent("round.planned", session.name, session.round, data=data, id=event_id))
    record_standing(context, session)
    return attempt


def _rebalance(context: ReducerContext, session: Session) -> list[Effect]:
    """Moves clients to the combiners with fewer, before the first attempt of a round: no training is under way.

    Not if the session's rule cannot merge the partials of two combiners: its clients stay where they are.
    """
    is_border = not session.attempts and session.policy.strategy.rule not in context.single_combiner_rules
    return context.members.rebalance(context.term) if is_border else []


def check_combiners(context: ReducerContext, session: Session, combiners: Collection[str]) -> None:
    """Raises Ended if `combiners` are several and the session's rule cannot merge the partials of two."""
    rule = session.policy.strategy.rule
    if len(combiners) > 1 and rule in context.single_combiner_rules:
        raise Ended(
            Stage.FAILED,
            f"the rule {rule!r} does not compose over combiners, and the clients of round {session.round} are at "
            f"{len(combiners)} combiners ({', '.join(combiners)}): run one combiner, or choose another strategy.rule",
        )


async def _enough_clients(context: ReducerContext, session: Session) -> list[ClientMember]:
    """Returns the clients that may be drawn, at least as many as the policy requires.

    Waits for them until `policy.wait` seconds after the wait began. That deadline stays when the number of clients changes
    and when another reducer takes over. Raises Ended when it has passed.
    """
    required, is_waiting, overdue = session.policy.clients_required, False, f"wait:{session.name}"
    while True:
        there = context.members.eligible("train")
        eligible = session.chosen(there)
        if len(eligible) >= required:
            return eligible
        waiting = f"waiting for clients, {len(eligible)} of {required}"
        if len(there) > len(eligible):
            waiting += f" ({len(there)} are there, the policy lets {len(eligible)} take part)"
        until = _report_waiting(context, session, waiting)
        if not is_waiting:
            is_waiting = True
            context.emit(StartTimer(overdue, min(session.policy.wait, max(0.0, until - context.now.wall))))
            if not session.attempts:  # else this was done in the attempt before
                windows.request(context, session)
        if isinstance(await context.first(MembersChanged, until=overdue), Fired):
            raise Ended(Stage.FAILED, f"gave up {waiting} after {session.policy.wait:g} s")


def _report_waiting(context: ReducerContext, session: Session, waiting: str) -> float:
    """Records and publishes what the session waits for, if that has changed. Returns the deadline, UTC seconds."""
    standing = session.standing
    if standing.waiting_until is None:
        standing.waiting_until = context.now.wall + session.policy.wait
    session.stage = Stage.WAITING
    if waiting != standing.waiting:
        standing.waiting = waiting
        data = {"reason": waiting, "waiting_until": standing.waiting_until}
        context.emit(*session.take_deferred())
        context.emit(PublishEvent("session.waiting", session.name, session.round, data=data))
        record_standing(context, session)
    return standing.waiting_until
