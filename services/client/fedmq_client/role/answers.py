"""A client's answers to its tasks, and what it keeps to answer a task that is requested again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedmq.runtime.effects import Effect, Publish
from fedmq_client.role.attachment import publish_to
from fedmq_client.role.operations import (
    Forget,
    Measure,
    Measured,
    ModelScores,
    ModelValidated,
    TaskKey,
    TaskResult,
    Upload,
    task_key,
)
from fedmq_client.role.uploads import Uploads
from fedmq_schemas import topology
from fedmq_schemas.limits import LONGEST_REASON, LONGEST_TRACEBACK, safe
from fedmq_schemas.messages import BlobRef, Body, Decline, PlanKey, TaskMessage, Update, Validation
from fedmq_schemas.policy import weight_of


class Answers:
    """Makes the answers. `uploads`: those that are under way.

    - `tasks`: the kinds of tasks that the client does. One that does not train validates on a test set.
    - `kept`: updates that were finished before a restart.
    """

    def __init__(self, client: str, tasks: Sequence[str], kept: Iterable[TaskResult]) -> None:
        self.uploads = Uploads(client)
        self._client = client
        self._is_test = "train" not in tasks
        # An earlier version also kept updates of no examples, which weigh nothing. These tasks are run again, and abstain.
        self._kept = {result.key: result for result in kept if result.examples}
        self._validation: Validation | None = None
        self._requested_at: dict[TaskKey, float] = {}

    # -- tasks ------------------------------------------------------------------------------------------------------

    def repeat(self, task: TaskMessage, now: float) -> list[Effect]:
        """Answers a task that has been run before; nothing if it is still to be run."""
        key = task_key(task.plan)
        if key.action == "train":
            self._requested_at.setdefault(key, now)
        if key in self._kept:
            kept = self._kept[key]
            # A client that was killed has perhaps kept its update before the scores were confirmed.
            scores = [] if kept.scores is None else [self._validation_of(task, kept.scores)]
            return [*map(self._to_reducer, scores), *self.uploads.begin(task, kept, now)]
        if self._validation is not None and task_key(self._validation.plan) == key:
            return [self._to_reducer(self._validation.model_copy(update={"plan": task.plan}))]
        return []

    def answer(self, task: TaskMessage, result: TaskResult, now: float) -> list[Effect]:
        """Answers a task whose work has ended. Keeps its update. The metrics of a validation were published before."""
        if task.plan.action == "validate":
            if result.outcome == "done":
                return []
            failed = ModelScores(None, {}, result.notes, result.reason, result.traceback)
            return [self._to_reducer(self._validation_of(task, failed))]
        if result.outcome == "done":
            self._kept[result.key] = result
            return self.uploads.begin(task, result, now)
        reason, traceback = _sendable(result)
        decline = Decline(plan=task.plan, outcome=result.outcome, reason=reason, traceback=traceback)
        return [publish_to(task.combiner, self._client, decline)]

    def validated(self, event: ModelValidated) -> list[Effect]:
        """Publishes metrics of the received model. Keeps those of the last validate task."""
        validation = self._validation_of(event.task, event.scores)
        if event.task.plan.action == "validate":
            self._validation = validation
        return [self._to_reducer(validation)]

    # -- uploads ----------------------------------------------------------------------------------------------------

    def measured(self, measure: Measure, found: Measured) -> list[Effect]:
        """Requests a ticket, unless the update is no longer kept: its session or round is over."""
        self.uploads.ended()
        return self.uploads.measured(measure, found) if measure.result.key in self._kept else []

    def not_uploaded(self, upload: Upload, is_leaving: bool) -> list[Effect]:
        """Requests another ticket, as the URL of this one may have expired. A client that is leaving waits for none."""
        self.uploads.ended()
        return self.uploads.refused(upload) if upload.result.key in self._kept and not is_leaving else []

    def uploaded(self, upload: Upload, blob: BlobRef, now: float) -> Publish:
        """Publishes the update. Its `seconds` hold each step, and in `total` the time since the first request."""
        task, result = upload.task, upload.result
        total = now - self._requested_at.get(result.key, now)
        update = Update(
            plan=task.plan,
            model=task.model.key,
            blob=blob,
            weight=weight_of(task.weighting, result.examples),
            metrics=result.metrics,
            seconds={**result.seconds, "upload": now - upload.since, "total": total},
            notes=tuple(result.notes),
            personal=result.personal,
        )
        return publish_to(task.combiner, self._client, update)

    def refused(self, publish: Publish, reason: str) -> list[Effect]:
        """Publishes the reason in place of an answer whose metrics no message can hold, so that nobody waits for it."""
        reason = safe(reason)[:LONGEST_REASON]
        match publish.body:
            case Update(plan=plan):
                body: Body = Decline(plan=plan, outcome="failed", reason=reason)
            case Validation(metrics=metrics) as validation if metrics:
                body = validation.model_copy(update={"metrics": {}, "reason": reason})
            case _:
                return []
        return [Publish(publish.exchange, publish.routing_key, body)]

    # -- what is kept -----------------------------------------------------------------------------------------------

    def outdate(self, plan: PlanKey) -> list[Effect]:
        """Deletes what is kept for other sessions and for rounds before a requested training.

        An update of another session whose ticket is awaited stays: a delayed request of the session before must not cost it.
        """
        newest = task_key(plan)
        if newest.action != "train":
            return []
        others = [key for key in self._kept if key.session != newest.session and not self.uploads.awaits_ticket(key)]
        outdated = [*others, *(key for key in self._kept if newest.ends(key))]
        for key in outdated:
            del self._kept[key]
        ended = [key for key in self._requested_at if key.session != newest.session or newest.ends(key)]
        for key in [key for key in ended if key not in self._kept]:
            del self._requested_at[key]
        return [*self.uploads.drop(outdated), *(Forget(key.session, key.round + 1) for key in others)]

    def end_session(self, session: str) -> list[Effect]:
        """Deletes the updates that are kept for a session that is over."""
        over = [key for key in self._kept if key.session == session]
        for key in over:
            del self._kept[key]
        return [*self.uploads.drop(over), Forget(session)]

    # -- messages ---------------------------------------------------------------------------------------------------

    def _validation_of(self, task: TaskMessage, scores: ModelScores) -> Validation:
        examples = scores.examples
        reason, traceback = _sendable(scores)
        return Validation(
            plan=task.plan,
            model=task.model.key,
            scope="test" if self._is_test else "client",
            weight=None if examples is None else weight_of(task.weighting, examples),
            metrics=scores.metrics,
            reason=reason,
            traceback=traceback,
            notes=tuple(scores.notes),
        )

    def _to_reducer(self, body: Body) -> Publish:
        return publish_to(topology.REDUCER, self._client, body)


def _sendable(found: TaskResult | ModelScores) -> tuple[str, str]:
    """Returns reason and traceback as a message can hold them: of a long reason the beginning, of a traceback the end."""
    return safe(found.reason)[:LONGEST_REASON], safe(found.traceback)[-LONGEST_TRACEBACK:]
