"""Validation: which models are scored by whom, and when a session may finish. Pure.

Clients score a model when they receive it to train on it. Evaluators, and for the last model all clients, get plans of
their own. Rounds don't wait for validations, unless it depends on them whether a round follows; a session is
finished when its last window has closed.
"""

from __future__ import annotations

from typing import Any

from fedmq.effects import Ack, CancelTimer, Effect, Emit, Moment, Received, StartTimer
from fedmq.metrics import summarize
from fedmq_reducer.documents import validation_document
from fedmq_reducer.operations import Change, Put
from fedmq_reducer.planning import Desk, send_plan
from fedmq_reducer.selection import next_score
from fedmq_reducer.session import Session, State, group_by_combiner, model_id
from fedmq_schemas import messages, records
from fedmq_schemas.messages import BlobRef, PlanKey


class Validations:
    """The validations of one session's models."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def ask(self, session: Session, number: int, model: BlobRef, only: str | None = None) -> list[Effect]:
        """Plans for those who are to score the model of round `number` and have not; for one combiner if named."""
        wanted = self._wanted(session, number) - set(session.validated.get(model_id(model), {}))
        if not wanted:
            return []
        session.tests[number] = model
        # A combiner knows a plan by its key: the window's plans must not look like those that asked for a score.
        attempt = 2 if session.state is State.VALIDATING and session.policy.stop.needs_scores else 1
        combiner_of = {name: self._desk.assignment.clients[name].combiner for name in wanted}
        effects: list[Effect] = []
        for part, (combiner, clients) in enumerate(group_by_combiner(sorted(wanted), combiner_of).items()):
            if only in (None, combiner):
                key = PlanKey(session=session.name, round=number, attempt=attempt, part=part, action="validate")
                timeout = session.policy.validation_timeout
                effects += send_plan(self._desk, session, key, combiner, clients, model, timeout)
        return effects

    def _wanted(self, session: Session, number: int) -> set[str]:
        """Evaluators; for the last model all clients; for a model that decides whether a round follows, whoever has the
        metric that counts."""
        everybody = session.chosen(self._desk.assignment.eligible("validate"))
        evaluators = {client.name for client in everybody if "train" not in client.tasks}
        clients = {client.name for client in everybody} - evaluators
        if number != session.round - 1:
            return evaluators
        if session.state is State.SCORING:
            metric = session.score.metric if session.score is not None else session.policy.select.metric
            is_tested = metric.startswith("test/") or (not metric and evaluators)
            return evaluators if is_tested else clients
        return evaluators | clients if session.is_last and session.policy.validate_models else evaluators

    def open_window(self, session: Session) -> list[Effect]:
        """All rounds are committed: ask for the last model's validations, and wait for them."""
        assert session.model is not None
        session.move(State.VALIDATING)
        effects = self.ask(session, session.round - 1, session.model)
        if self._close_if_complete(session):
            return effects
        return [*effects, StartTimer(f"window:{session.name}", session.policy.validation_timeout)]

    def _close_if_complete(self, session: Session) -> bool:
        missing = any(self._missing(session, number, model) for number, model in session.tests.items())
        if not missing:
            session.verdict = (State.FINISHED, session.early)
        return not missing

    def _missing(self, session: Session, number: int, model: BlobRef) -> set[str]:
        return self._wanted(session, number) - set(session.validated.get(model_id(model), {}))

    # -- whether a round follows ------------------------------------------------------------------------------------

    def open_scoring(self, session: Session) -> list[Effect]:
        """Whether a round follows depends on the newest model's score: ask for what it takes."""
        assert session.model is not None
        session.move(State.SCORING)
        asked = self.ask(session, session.round - 1, session.model)
        return [*asked, StartTimer(f"score:{session.name}", session.policy.validation_timeout)]

    def score_if_complete(self, session: Session) -> list[Effect]:
        """Records the score once everybody who is there has answered; nothing before."""
        assert session.model is not None
        return [] if self._missing(session, session.round - 1, session.model) else self.score(session)

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
        self, event: Received, body: messages.Validation, session: Session | None, moment: Moment
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
            Emit(
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

    def settle_older(self, session: Session, parent: BlobRef) -> list[Effect]:
        """A round is committed: what its parent scored is recorded, and older models that nobody still has to score are
        no longer kept in memory."""
        assert session.model is not None
        effects = self.summarise(session, parent)
        for number, model in list(session.tests.items()):
            if number < session.round - 2 and not self._missing(session, number, model):
                effects += self.summarise(session, model)
                del session.tests[number]
        kept = {model_id(model) for model in (parent, session.model, *session.tests.values())}
        for forgotten in session.validated.keys() - kept:
            del session.validated[forgotten]
        return effects

    def summarise_all(self, session: Session) -> list[Effect]:
        models = {**session.tests, session.round - 1: session.model}
        return [effect for model in models.values() if model is not None for effect in self.summarise(session, model)]
