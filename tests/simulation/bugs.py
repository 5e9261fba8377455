"""Nine bugs to plant: each takes away one of the rules that the guarantees stand on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from fedmq.blobs.base import SignedUpload
from fedmq.blobs.memory import MemoryBlobs
from fedmq.runtime.effects import Ack, CoreEvent, Effect, Now, Received
from fedmq_combiner.core import CombinerCore
from fedmq_combiner.plans import ClientAnswer, OpenPlan, PlanState
from fedmq_reducer.core import ReducerCore
from fedmq_reducer.operations import ChangeModel
from fedmq_reducer.performers.record_performer import RecordPerformer
from fedmq_reducer.sessions import windows
from fedmq_reducer.sessions.attempt import PlannedPart
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.session import Session
from fedmq_schemas import messages
from fedmq_schemas.keys import model_id
from fedmq_schemas.messages import BlobRef, Update
from fedmq_schemas.records import ModelChange, RoundRecord, ValidationRecord


@contextmanager
def ack_before_the_effect() -> Iterator[None]:
    """A message is acknowledged before what it asks for is durable."""
    right = ReducerCore.handle

    def handle(self: ReducerCore, event: CoreEvent, now: Now) -> Sequence[Effect]:
        return sorted(right(self, event, now), key=lambda effect: not isinstance(effect, Ack))

    with patch.object(ReducerCore, "handle", handle):
        yield


@contextmanager
def no_duplicate_check() -> Iterator[None]:
    """An update of a task that has been accepted is folded again."""
    right = OpenPlan.objection

    def objection(self: OpenPlan, answer: ClientAnswer) -> str | None:
        task = self.tasks.get(answer.client)
        if task is not None and self.state is PlanState.OPEN:
            task.entry = None
        return right(self, answer)

    with patch.object(OpenPlan, "objection", objection):
        yield


@contextmanager
def no_stale_check() -> Iterator[None]:
    """An update of another round or attempt is folded into the plan of its session that is open."""
    right = CombinerCore._answered

    def answered(self: CombinerCore, answer: ClientAnswer) -> None:
        body = answer.body
        if isinstance(body, Update):
            for plan in self._plans.values():
                is_wrong = plan.key != body.plan and plan.key.session == body.plan.session
                if is_wrong and plan.is_training and plan.state is PlanState.OPEN:
                    taken = body.model_copy(update={"plan": plan.key, "model": plan.message.model.key})
                    return right(self, replace(answer, body=taken))
        return right(self, answer)

    with (
        patch.object(CombinerCore, "_answered", answered),
        patch.object(OpenPlan, "rejection", lambda *_: None),
    ):
        yield


@contextmanager
def commit_without_the_unique_key() -> Iterator[None]:
    """A round's record is written whether or not there is one, and no matter which process holds the lease."""
    right = RecordPerformer.insert

    def insert(self: RecordPerformer, record: Any, term: int) -> Any:
        if not isinstance(record, RoundRecord):
            return right(self, record, term)
        if self._records.insert(record.table, record.key, record.document()) is not None:
            self._records.put(record.table, record.key, record.document())
        return None

    with patch.object(RecordPerformer, "insert", insert):
        yield


@contextmanager
def a_hello_not_answered() -> Iterator[None]:
    """A client that says hello does not get its open tasks."""
    right = CombinerCore._received

    def received(self: CombinerCore, event: Received) -> None:
        if isinstance(event.body, messages.ClientHello):
            greeting = self._presence.greet(event.envelope.sender, self._context.now)
            self._context.emit(*greeting, Ack((event.tag,)))
        else:
            right(self, event)

    with patch.object(CombinerCore, "_received", received):
        yield


@contextmanager
def a_voided_plan_accepted() -> Iterator[None]:
    """A partial counts although its plan was voided and its clients were given to others."""
    right = PlannedPart.is_answered_by

    def is_answered_by(self: PlannedPart, partial: messages.Partial, sender: str) -> bool:
        if self.partial is None:
            self.voided = False
        return right(self, partial, sender)

    with patch.object(PlannedPart, "is_answered_by", is_answered_by):
        yield


@contextmanager
def an_old_epoch_obeyed() -> Iterator[None]:
    """A combiner does what a reducer says whose lease another has taken."""
    right = CombinerCore._received

    def received(self: CombinerCore, event: Received) -> None:
        self._term = min(self._term, 0)  # read, so that another name for it is an error and no bug
        right(self, event)

    with patch.object(CombinerCore, "_received", received):
        yield


@contextmanager
def metrics_by_model_alone() -> Iterator[None]:
    """What a session finds of a model is recorded by the model, whichever session has made it or found it before."""

    def key(self: ValidationRecord) -> str:
        return f"{self.model}/{self.client}"

    def record_summary(context: ReducerContext, session: Session, number: int, model: BlobRef) -> None:
        if metrics := windows.summary(session, model):
            context.emit(ChangeModel(model_id(model.key), ModelChange(metrics=metrics), context.term))

    with (
        patch.object(ValidationRecord, "key", property(key)),
        patch.object(windows, "_record_summary", record_summary),
    ):
        yield


@contextmanager
def absences_not_reported() -> Iterator[None]:
    """Nobody learns who was requested to validate a model and has not."""

    def report_absent(context: ReducerContext, session: Session, number: int, *, only_away: bool = False) -> None:
        return

    with patch.object(windows, "report_absent", report_absent):
        yield


@contextmanager
def uploads_that_bind_nothing() -> Iterator[None]:
    """The URL of a ticket accepts any bytes, as long as it is valid."""

    def presign_upload(self: MemoryBlobs, ref: BlobRef, seconds: float) -> SignedUpload:
        return SignedUpload(self.presign_put(ref.key, seconds), {})

    with patch.object(MemoryBlobs, "presign_upload", presign_upload):
        yield


BUGS = {
    bug.__name__: bug
    for bug in (
        ack_before_the_effect,
        no_duplicate_check,
        no_stale_check,
        commit_without_the_unique_key,
        a_hello_not_answered,
        a_voided_plan_accepted,
        an_old_epoch_obeyed,
        metrics_by_model_alone,
        absences_not_reported,
        uploads_that_bind_nothing,
    )
}


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """The bug of this name, as long as the context lasts; None: no bug."""
    if name is None:
        yield
    else:
        with BUGS[name]():
            yield
