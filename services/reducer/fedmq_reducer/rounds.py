"""Rounds: draw, plans, partials, commit. Pure.

What is decided is recorded before anybody is told: the draw of an attempt before its plans, a partial before it is
acknowledged, the round (the commit point) before its events. So whoever takes over finds every decision, and may tell it
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.effects import Ack, CancelTimer, Effect, Now, PublishEvent, Received, StartTimer
from fedmq_reducer.documents import (
    attempt_document,
    attempt_key,
    model_document,
    partial_document,
    participation_key,
    round_document,
    round_key,
)
from fedmq_reducer.operations import Aggregate, Aggregated, Change, CheckLease, Insert, Put, TellLedger
from fedmq_reducer.planning import Desk, send_plan, void_part
from fedmq_reducer.session import Attempt, PlannedPart, Session, State, group_by_combiner
from fedmq_schemas import records
from fedmq_schemas.messages import BlobRef, Partial, PlanKey

LEAST_GRACE = 5.0


class Rounds:
    """The rounds of one session at a time. A session that can't go on gets a `verdict`; the caller ends it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    # -- draw and plans ---------------------------------------------------------------------------------------------

    def plan(self, session: Session, moment: Now) -> list[Effect]:
        """Draws the next attempt's clients, or waits for them."""
        there = self._desk.assignment.eligible("train")
        eligible = session.chosen(there)
        if len(eligible) < session.policy.clients_required:
            return self._wait(session, len(eligible), len(there), moment)
        session.move(State.DRAWING)
        session.attempts += 1
        session.waiting, session.waiting_until = "", None
        if session.attempts == 1:
            session.began_at = moment.seconds
        groups = group_by_combiner(session.draw(eligible), {client.name: client.combiner for client in eligible})
        parts = [
            PlannedPart(self._key(session, number), combiner, clients)
            for number, (combiner, clients) in enumerate(groups.items())
        ]
        session.attempt = Attempt(session.attempts, parts, moment.wall)
        document = attempt_document(session, self._desk.epoch)
        insert = Insert(records.ATTEMPTS, attempt_key(session), document, self._desk.epoch)
        return [CancelTimer(f"wait:{session.name}"), insert]

    def _key(self, session: Session, part: int) -> PlanKey:
        return PlanKey(session=session.name, round=session.round, attempt=session.attempts, part=part)

    def _wait(self, session: Session, found: int, there: int, moment: Now) -> list[Effect]:
        """Waits until `policy.wait` seconds after the wait began, however often the number of clients changes."""
        waiting = f"waiting for clients, {found} of {session.policy.clients_required}"
        if there > found:
            waiting += f" ({there} are there, the policy lets {found} take part)"
        is_new = session.state is not State.WAITING
        session.move(State.WAITING)
        if waiting == session.waiting:
            return []
        session.waiting = waiting
        left = session.policy.wait
        if session.waiting_until is None:
            session.waiting_until = moment.wall + left
        else:
            left = min(left, max(0.0, session.waiting_until - moment.wall))
        data = {"reason": waiting, "waiting_until": session.waiting_until}
        effects: list[Effect] = [
            PublishEvent("session.waiting", session.name, session.round, data=data),
            *self.recorded(session),
        ]
        return [*effects, StartTimer(f"wait:{session.name}", left)] if is_new else effects

    def recorded(self, session: Session) -> list[Change]:
        """The change of the session's record, if it does not say already where the session stands."""
        fields = {
            "state": session.recorded_state, "waiting": session.waiting, "waiting_until": session.waiting_until
        }  # fmt: skip
        if fields == session.recorded:
            return []
        session.recorded = fields
        return [Change(records.SESSIONS, session.name, fields, self._desk.epoch)]

    def attempt_recorded(self, session: Session, existing: Mapping[str, Any] | None, moment: Now) -> list[Effect]:
        if session.state is not State.DRAWING or session.attempt is None:
            return []
        if existing is not None:
            self.adopt_attempt(session, existing)
        session.move(State.RUNNING)
        attempt = session.attempt
        data = {
            "attempt": attempt.number,
            "clients": sum(len(part.clients) for part in attempt.parts),
            "combiners": len(attempt.parts),
            "timeout": session.policy.timeout,
        }
        told = PublishEvent(
            "round.planned", session.name, session.round, data=data, id=f"planned-{attempt.parts[0].key}"
        )
        return [told, *self.recorded(session), *self.send_all(session, moment)]

    def adopt_attempt(self, session: Session, document: Mapping[str, Any]) -> None:
        """The draw is as it was recorded, by whomever."""
        session.attempts = document["attempt"]
        parts = [
            PlannedPart(self._key(session, plan["part"]), plan["combiner"], tuple(plan["clients"]), plan["voided"])
            for plan in document["plans"]
        ]
        session.attempt = Attempt(session.attempts, parts, document["created_at"])
        session.exponents = tuple(document["exponents"])
        session.model = BlobRef.model_validate(document["model"])
        session.optimizer = BlobRef.model_validate(document["optimizer"]) if document["optimizer"] else None

    def send_all(self, session: Session, moment: Now) -> list[Effect]:
        """The open plans, and a deadline of our own a little after the combiners'."""
        assert session.attempt is not None
        timeout = session.policy.timeout
        session.attempt.due_at = moment.seconds + timeout
        effects: list[Effect] = [StartTimer(f"round:{session.name}", timeout + max(LEAST_GRACE, timeout / 10))]
        for part in session.attempt.parts:
            if part.is_open:
                effects += self.send(session, part, moment)
        return effects

    def send(self, session: Session, part: PlannedPart, moment: Now) -> list[Effect]:
        assert session.attempt is not None and session.model is not None
        left = max(0.0, session.attempt.due_at - moment.seconds)
        return send_plan(self._desk, session, part.key, part.combiner, part.clients, session.model, left)

    def send_open(self, session: Session, combiner: str, moment: Now) -> list[Effect]:
        """What is still open for a combiner that has said hello."""
        if session.state is not State.RUNNING or session.attempt is None:
            return []
        mine = [part for part in session.attempt.parts if part.is_open and part.combiner == combiner]
        return [effect for part in mine for effect in self.send(session, part, moment)]

    def move_clients(self, session: Session, moved: Mapping[str, str], moment: Now) -> list[Effect]:
        """Clients of a vanished combiner work elsewhere now: its open plans are voided and planned again."""
        if session.state is not State.RUNNING or session.attempt is None:
            return []
        parts, here = session.attempt.parts, self._desk.assignment.combiners
        lost = [
            part for part in parts if part.is_open and part.combiner not in here and set(part.clients) <= set(moved)
        ]
        if not lost:
            return []
        told: list[Effect] = []
        added: list[PlannedPart] = []
        for part in lost:
            told += void_part(self._desk, part, f"combiner {part.combiner} has vanished")
            for combiner, clients in group_by_combiner(part.clients, moved).items():
                added.append(PlannedPart(self._key(session, len(parts) + len(added)), combiner, clients))
        parts += added
        effects = [self._record_attempt(session), *told]
        return effects + [effect for part in added for effect in self.send(session, part, moment)]

    def _record_attempt(self, session: Session) -> Put:
        document = attempt_document(session, self._desk.epoch)
        return Put(records.ATTEMPTS, attempt_key(session), document, self._desk.epoch)

    def overdue(self, session: Session, moment: Now) -> list[Effect]:
        """Combiners that have not answered by now are not waited for."""
        if session.state is not State.RUNNING or session.attempt is None:
            return []
        told: list[Effect] = []
        for part in session.attempt.parts:
            if part.is_open:
                told += void_part(self._desk, part, f"combiner {part.combiner} did not answer in time")
        return [self._record_attempt(session), *told, *self.commit_if_answered(session, moment)]

    # -- partials and the commit ------------------------------------------------------------------------------------

    def partial(self, session: Session | None, event: Received, body: Partial, moment: Now) -> list[Effect]:
        """Recorded, then acknowledged; but the one that completes the round is acknowledged when the round is recorded."""
        attempt = session.attempt if session is not None else None
        part = attempt.part(body.plan) if attempt is not None else None
        settled = [CheckLease(self._desk.epoch), Ack((event.tag,))]
        if session is None or attempt is None or part is None or not part.takes(body, event.envelope.sender):
            data = {"reason": "a partial of a plan that is not open", "plan": str(body.plan), "counts": body.counts}
            told = PublishEvent("plan.voided", body.plan.session, body.plan.round, None, event.envelope.sender, data)
            return [told, *settled]
        if part.partial is not None:
            if not attempt.completed_by:
                return settled
            attempt.completed_by += (event.tag,)
            return []
        part.partial = body
        following = self.commit_if_answered(session, moment)
        if session.state is State.COMMITTING:
            attempt.completed_by = (event.tag,)
            return following
        document = partial_document(body, part.combiner)
        insert = Insert(records.PARTIALS, str(body.plan), document, self._desk.epoch)
        return [insert, Ack((event.tag,)), *following]

    def take_partial(self, session: Session, partial: Partial) -> None:
        part = session.attempt.part(partial.plan) if session.attempt is not None else None
        if part is not None and part.is_open:
            part.partial = partial

    def commit_if_answered(self, session: Session, moment: Now) -> list[Effect]:
        attempt = session.attempt
        if session.state is not State.RUNNING or attempt is None or not attempt.is_answered:
            return []
        if attempt.accepted() < session.policy.clients_required:
            return self._retry(session, attempt.accepted(), moment)
        assert session.model is not None
        session.move(State.COMMITTING)
        partials = tuple(sorted(attempt.partials(), key=lambda partial: partial.plan.part))
        aggregate = Aggregate(
            session.name, session.round, attempt.number, session.model, session.optimizer, session.exponents,
            session.policy.strategy, partials,
        )  # fmt: skip
        return [CancelTimer(f"round:{session.name}"), aggregate]

    def _retry(self, session: Session, accepted: int, moment: Now) -> list[Effect]:
        reason = f"round {session.round} got {accepted} updates of {session.policy.clients_required}"
        if session.attempts > session.policy.retries:
            times = f"{session.attempts} attempts" if session.attempts > 1 else "1 attempt"
            session.verdict = (State.FAILED, f"{reason} in {times}")
            return []
        told = PublishEvent(
            "round.retried", session.name, session.round, data={"reason": reason, "attempt": session.attempts},
            id=f"retried-{session.name}-{session.round}-{session.attempts}",
        )  # fmt: skip
        return [told, *self.plan(session, moment)]

    def aggregated(self, session: Session, request: Aggregate, result: Aggregated, moment: Now) -> list[Effect]:
        if session.state is not State.COMMITTING or session.round != request.round:
            return []
        document = round_document(session, request, result, self._desk.epoch, moment)
        return [Insert(records.ROUNDS, round_key(session), document, self._desk.epoch)]

    def adopt_round(self, session: Session, committed: Mapping[str, Any]) -> None:
        session.model = BlobRef.model_validate(committed["model"])
        session.optimizer = BlobRef.model_validate(committed["optimizer"]) if committed["optimizer"] else None
        session.exponents = tuple(committed["exponents"])
        session.round = committed["round"] + 1
        session.attempt, session.attempts = None, 0

    def tell_committed(self, session: Session, committed: Mapping[str, Any]) -> list[Effect]:
        """May be told again: the trail's entry and the event's id derive from the round."""
        document = model_document(committed)
        names = ("attempt", "seconds", "counts", "metrics", "total_weight")
        data = {"model": document["model"], "sha256": committed["model"]["sha256"]}
        data |= {name: committed[name] for name in names}
        event_id = f"committed-{session.name}-{committed['round']}"
        return [
            Put(records.MODELS, document["model"], document, self._desk.epoch),
            PublishEvent("round.committed", session.name, committed["round"], data=data, id=event_id),
        ]

    def tell_ledger(self, committed: Mapping[str, Any]) -> TellLedger:
        """May be told again."""
        ledger = BlobRef.model_validate(committed["ledger"])
        return TellLedger(committed["session"], ledger, participation_key(committed), self._desk.epoch)
