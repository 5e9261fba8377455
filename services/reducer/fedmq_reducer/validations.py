"""Validation: which models are scored by whom, and when a session may finish. Pure.

Clients score a model when they receive it to train on it. Evaluators, and for the last model all clients, get plans of
their own. Rounds don't wait for validations; a session is finished when its last window has closed.
"""

from __future__ import annotations

from typing import Any

from fedmq.effects import Ack, Effect, Emit, Moment, Received, StartTimer
from fedmq.metrics import summarize
from fedmq_reducer.documents import validation_document
from fedmq_reducer.operations import Change, Put
from fedmq_reducer.planning import Desk, send_plan
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
        combiner_of = {name: self._desk.assignment.clients[name].combiner for name in wanted}
        effects: list[Effect] = []
        for part, (combiner, clients) in enumerate(group_by_combiner(sorted(wanted), combiner_of).items()):
            if only in (None, combiner):
                key = PlanKey(session=session.name, round=number, attempt=1, part=part, action="validate")
                timeout = session.policy.validation_timeout
                effects += send_plan(self._desk, session, key, combiner, clients, model, timeout)
        return effects

    def _wanted(self, session: Session, number: int) -> set[str]:
        everybody = self._desk.assignment.eligible("validate")
        is_last = number == session.policy.rounds and session.policy.validate_models
        return {client.name for client in everybody if is_last or "train" not in client.tasks}

    def open_window(self, session: Session) -> list[Effect]:
        """All rounds are committed: ask for the last model's validations, and wait for them."""
        assert session.model is not None
        session.move(State.VALIDATING)
        effects = self.ask(session, session.policy.rounds, session.model)
        if self._close_if_complete(session):
            return effects
        return [*effects, StartTimer(f"window:{session.name}", session.policy.validation_timeout)]

    def _close_if_complete(self, session: Session) -> bool:
        missing = any(
            self._wanted(session, number) - set(session.validated.get(model_id(model), {}))
            for number, model in session.tests.items()
        )
        if not missing:
            session.verdict = (State.FINISHED, "")
        return not missing

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
        results = session.validated.get(model_id(model), {})
        summary: dict[str, Any] = {}
        for scope, prefix in (("client", ""), ("test", "test/")):
            pairs = [(found["weight"], found["metrics"]) for found in results.values() if found["scope"] == scope]
            summary |= {f"{prefix}{name}": value for name, value in summarize(pairs).items()}
        return [Change(records.MODELS, model_id(model), {"metrics": summary}, self._desk.epoch)] if summary else []

    def summarise_all(self, session: Session) -> list[Effect]:
        models = {**session.tests, session.round - 1: session.model}
        return [effect for model in models.values() if model is not None for effect in self.summarise(session, model)]
