"""Validation: which models are scored by whom, and when a session may finish. Pure.

By the policy's `validation` clients score a model when they receive it to train on it, or each model in plans of their
own. Evaluators always get plans of their own, and so do all clients for the last model. Rounds don't wait for validations,
unless it depends on them whether a round follows; a session is finished when its last window has closed.
"""

from __future__ import annotations

from typing import Any

from fedmq.effects import Ack, CancelTimer, Effect, Now, PublishEvent, Received, StartTimer
from fedmq.metrics import summarize
from fedmq_reducer.documents import validation_document
from fedmq_reducer.operations import Change, Put
from fedmq_reducer.planning import Desk, send_plan
from fedmq_reducer.selection import next_score
from fedmq_reducer.session import PlannedPart, Session, State, Window, group_by_combiner, model_id
from fedmq_schemas import messages, records
from fedmq_schemas.messages import BlobRef, PlanKey


class Validations:
    """The validations of one session's models."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def ask(self, session: Session, moment: Now) -> list[Effect]:
        """Plans for those who are to validate the newest model, have not, and have no plan for it at their combiner."""
        assert session.model is not None
        number = session.round - 1
        window = session.windows.get(number) or Window(session.model, 0.0)
        return self._send(session, number, window, self._wanted(session, number), moment)

    def _send(self, session: Session, number: int, window: Window, clients: set[str], moment: Now) -> list[Effect]:
        combiner_of = {
            name: self._desk.assignment.clients[name].combiner for name in clients - self._done(session, window)
        }
        new = [name for name, combiner in sorted(combiner_of.items()) if not window.has_asked(name, combiner)]
        if not new:
            return []
        session.windows[number] = window
        window.closes_at = moment.wall + session.policy.validation_timeout
        first = len(window.parts)
        for part, (combiner, group) in enumerate(group_by_combiner(new, combiner_of).items(), first):
            # Whoever takes over does not know which plans there are: those of an epoch are not taken for another's.
            key = PlanKey(
                session=session.name, round=number, attempt=max(1, self._desk.epoch), part=part, action="validate"
            )
            window.parts.append(PlannedPart(key, combiner, group))
        sent = [self._plan(session, window, part, moment) for part in window.parts[first:]]
        return [effect for effects in sent for effect in effects]

    def _plan(self, session: Session, window: Window, part: PlannedPart, moment: Now) -> list[Effect]:
        left = max(0.0, window.closes_at - moment.wall)
        return send_plan(self._desk, session, part.key, part.combiner, part.clients, window.model, left)

    def send_open(self, session: Session, combiner: str, moment: Now) -> list[Effect]:
        """What is still open for a combiner that has said hello; and clients that have come to it are asked there."""
        effects: list[Effect] = []
        for number, window in list(session.windows.items()):
            if window.closes_at <= moment.wall:
                continue
            for part in window.parts:
                if part.combiner == combiner and not set(part.clients) <= self._done(session, window):
                    effects += self._plan(session, window, part, moment)
            moved = window.asked & self._wanted(session, number)
            effects += self._send(session, number, window, moved, moment)
        return effects

    def reopen(self, session: Session, number: int, since: float) -> None:
        """What the last reducer has asked, and whom, is not known: the window is as it was, without plans."""
        assert session.model is not None
        session.windows[number] = Window(session.model, since + session.policy.validation_timeout)

    def ask_again(self, session: Session, moment: Now) -> list[Effect]:
        """All whose answer may still be on its way; for the newest model only if its round has begun, as nobody was asked
        before."""
        effects: list[Effect] = []
        for number, window in list(session.windows.items()):
            is_newest = number == session.round - 1
            if (is_newest and session.attempt is not None) or (not is_newest and window.closes_at > moment.wall):
                effects += self._send(session, number, window, self._wanted(session, number), moment)
        return effects

    def _wanted(self, session: Session, number: int) -> set[str]:
        """Evaluators; clients if the policy says so, and those whose metric decides whether a round follows."""
        clients, evaluators = self._present(session)
        is_newest, validation = number == session.round - 1, session.policy.validation
        if validation == "separate" or (validation == "with_training" and is_newest and session.is_last):
            return clients | evaluators
        return evaluators | self._scorers(session) if is_newest and session.state is State.SCORING else evaluators

    def _scorers(self, session: Session) -> set[str]:
        """Those who have the metric that counts."""
        clients, evaluators = self._present(session)
        metric = session.score.metric if session.score is not None else session.policy.select.metric
        return evaluators if metric.startswith("test/") or (not metric and evaluators) else clients

    def _present(self, session: Session) -> tuple[set[str], set[str]]:
        """Clients and evaluators that are there to validate."""
        everybody = session.chosen(self._desk.assignment.eligible("validate"))
        evaluators = {client.name for client in everybody if "train" not in client.tasks}
        return {client.name for client in everybody} - evaluators, evaluators

    def open_window(self, session: Session, moment: Now) -> list[Effect]:
        """All rounds are committed: ask for the last model's validations, and wait for them."""
        session.move(State.VALIDATING)
        effects = self.ask(session, moment)
        if self._close_if_complete(session):
            return effects
        return [*effects, StartTimer(f"window:{session.name}", session.policy.validation_timeout)]

    def _close_if_complete(self, session: Session) -> bool:
        missing = any(self._missing(session, number) for number in session.windows)
        if not missing:
            session.verdict = (State.FINISHED, session.early)
        return not missing

    def _missing(self, session: Session, number: int) -> set[str]:
        """Who was asked, is there and has not answered."""
        window = session.windows.get(number)
        if window is None:
            return set()
        is_scored = session.state is State.SCORING and number == session.round - 1
        awaited = self._scorers(session) if is_scored else self._wanted(session, number)
        return awaited & window.asked - self._done(session, window)

    def _done(self, session: Session, window: Window) -> set[str]:
        return set(session.validated.get(model_id(window.model), {}))

    # -- whether a round follows ------------------------------------------------------------------------------------

    def open_scoring(self, session: Session, moment: Now) -> list[Effect]:
        """Whether a round follows depends on the newest model's score: ask for what it takes."""
        session.move(State.SCORING)
        asked = self.ask(session, moment)
        return [*asked, StartTimer(f"score:{session.name}", session.policy.validation_timeout)]

    def score_if_complete(self, session: Session) -> list[Effect]:
        """Records the score once everybody who is there has answered; nothing before."""
        return [] if self._missing(session, session.round - 1) else self.score(session)

    def score(self, session: Session) -> list[Effect]:
        """Records the score from what has come. It is durable before anything that follows from it."""
        assert session.model is not None
        policy, number = session.policy, session.round - 1
        summary = self._summary(session, session.model)
        session.score = next_score(session.score, number, summary, policy.select, policy.stop.min_delta)
        fields = {"score": session.score.document()}
        return [
            CancelTimer(f"score:{session.name}"),
            Change(records.SESSIONS, session.name, fields, self._desk.epoch),
        ]

    def received(
        self, event: Received, body: messages.Validation, session: Session | None, moment: Now
    ) -> list[Effect]:
        """Recorded whether or not the session is still open; counted if it is."""
        client = event.envelope.sender
        document = validation_document(body, client, moment)
        model = document["model"]
        if session is not None:
            session.validated.setdefault(model, {})[client] = document
            if session.state is State.VALIDATING:
                self._close_if_complete(session)
        data = {name: document[name] for name in ("model", "scope", "weight", "metrics", "reason")}
        return [
            Put(records.VALIDATIONS, f"{model}/{client}", document, self._desk.epoch),
            PublishEvent(
                "model.validated", body.plan.session, document["round"], client, data=data,
                id=f"validated-{model}-{client}",
            ),
            Ack((event.tag,)),
        ]  # fmt: skip

    def summarise(self, session: Session, model: BlobRef) -> list[Effect]:
        """Records what is known of a model's metrics; evaluators' are prefixed `test/`."""
        summary = self._summary(session, model)
        return [Change(records.MODELS, model_id(model), {"metrics": summary}, self._desk.epoch)] if summary else []

    def _summary(self, session: Session, model: BlobRef) -> dict[str, Any]:
        results = session.validated.get(model_id(model), {})
        summary: dict[str, Any] = {}
        for scope, prefix in (("client", ""), ("test", "test/")):
            pairs = [(found["weight"], found["metrics"]) for found in results.values() if found["scope"] == scope]
            summary |= {f"{prefix}{name}": value for name, value in summarize(pairs).items()}
        return summary

    def settle_older(self, session: Session, parent: BlobRef, moment: Now) -> list[Effect]:
        """A round is committed: what its parent scored is recorded, and the windows of older models that nobody still has
        to score, or whose time is over, are closed."""
        assert session.model is not None
        effects = self.summarise(session, parent)
        for number, window in list(session.windows.items()):
            is_over = window.closes_at <= moment.wall or not self._missing(session, number)
            if number < session.round - 2 and is_over:
                effects += self.summarise(session, window.model)
                del session.windows[number]
        open_models = [window.model for window in session.windows.values()]
        kept = {model_id(model) for model in (parent, session.model, *open_models)}
        for forgotten in session.validated.keys() - kept:
            del session.validated[forgotten]
        return effects

    def summarise_all(self, session: Session) -> list[Effect]:
        models = {number: window.model for number, window in session.windows.items()} | {
            session.round - 1: session.model
        }
        return [effect for model in models.values() if model is not None for effect in self.summarise(session, model)]
