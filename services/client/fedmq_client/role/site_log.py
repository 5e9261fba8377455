"""The site's log: one line for each step of a client's work, in the words of the events that others see."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from fedmq.runtime.effects import CoreEvent, Done, Effect, Received, Started
from fedmq_client.role.operations import ModelValidated, TaskFinished, Upload
from fedmq_schemas.messages import (
    Attach,
    BlobRef,
    Cancel,
    DuplicateClient,
    Grant,
    PlanKey,
    TaskMessage,
    Ticket,
    UpdateOutcome,
    Wait,
)

log = logging.getLogger("fedmq.client.site")


class SiteLog:
    """Observes a client's actor, and logs its story at info; what a person should look at, at warning and error.

    - `failed` logs an error of the trainer in full. It is the runner's `on_fault`.
    - `on_other`: called with the sentence if this process is to end, as another one has the client's name.
    - `waits`: what the reducer answered last in place of a combiner; None before its first answer, "" once one is granted.
    """

    def __init__(
        self, name: str, attach: Attach, alliance: str, now: Callable[[], float], on_other: Callable[[str], None]
    ) -> None:
        self.waits: str | None = None
        self._name = name
        self._instance = attach.instance
        self._alliance = alliance
        self._now = now
        self._on_other = on_other

    def __call__(self, event: CoreEvent, answer: Sequence[Effect], cause: str | None) -> None:
        """Logs the event, if it belongs to the story."""
        match event:
            case Received(body=body):
                self._received(body)
            case ModelValidated(task=task, scores=scores, abstained=True):
                log.info("model.abstained", extra=_about(task.plan) | {"reason": scores.reason})
            case ModelValidated(task=task, scores=scores) if not scores.reason:
                metrics = {"examples": scores.examples, "metrics": dict(scores.metrics)}
                log.info("model.validated", extra=_about(task.plan) | metrics)
            case TaskFinished(result=result) if result.outcome == "done" and result.key.action == "train":
                about = {"session": result.key.session, "round": result.key.round, "examples": result.examples}
                log.info("task.trained", extra=about | {"seconds": result.seconds.get("train")})
            case TaskFinished(result=result) if result.outcome == "abstained":
                about = {"session": result.key.session, "round": result.key.round, "reason": result.reason}
                log.info("update.abstained" if result.key.action == "train" else "model.abstained", extra=about)
            case Done(effect=Upload() as upload, result=BlobRef() as blob):
                seconds = self._now() - upload.since
                log.info("update.uploaded", extra=_about(upload.task.plan) | {"bytes": blob.size, "seconds": seconds})
            case Started():
                log.info("client.attaching", extra={"alliance": self._alliance, "instance": self._instance})

    def failed(self, name: str, plan: PlanKey, reason: str, traceback: str) -> None:
        """Logs an error of the trainer with its text and its traceback. `name`: the event's. On any thread."""
        extra = _about(plan) | {"reason": reason}
        log.error(name, extra=extra | ({"traceback": traceback} if traceback else {}))

    def _received(self, body: Any) -> None:
        match body:
            case Grant():
                self.waits = ""
                about = {"alliance": self._alliance, "combiner": body.combiner, "instance": self._instance}
                log.info("client.attached", extra=about | {"ordinal": body.ordinal, "count": body.count})
            case Wait(reason=reason):
                self.waits = reason
            case TaskMessage(plan=plan):
                log.info("task.received", extra=_about(plan) | {"kind": plan.action, "id": str(plan)})
            case Ticket(plan=plan, reason=reason) if reason:
                log.warning("upload.refused", extra=_about(plan) | {"reason": reason})
            case UpdateOutcome(plan=plan, outcome=outcome, reason=reason):
                level = logging.INFO if outcome == "accepted" else logging.WARNING
                log.log(level, f"update.{outcome}", extra=_about(plan) | ({"reason": reason} if reason else {}))
            case Cancel(plan=plan, session_over=True):
                log.info("session.over", extra={"session": plan.session})
            case Cancel(plan=plan):
                log.info("task.cancelled", extra=_about(plan) | {"kind": plan.action})
            case DuplicateClient():
                self._duplicate(body)

    def _duplicate(self, found: DuplicateClient) -> None:
        instances = {"instance": self._instance, "continues": found.continues, "other": found.other}
        if found.other != self._instance:
            reason = f"another process works as client {self._name}: this one continues, that one ends"
            log.warning("client.duplicate", extra={"reason": reason} | instances)
            return
        reason = (
            f"another process works as client {self._name} (instance {found.continues}, this is {found.other}), "
            "and continues: stop it, or give this one another FEDN_CLIENT_NAME and account"
        )
        log.error("client.duplicate", extra={"reason": reason} | instances)
        self._on_other(reason)


def _about(plan: PlanKey) -> dict[str, Any]:
    return {"session": plan.session, "round": plan.round}
