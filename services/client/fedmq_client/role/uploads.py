"""A client's uploads: each needs a ticket of the combiner, which is requested until it arrives. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from fedmq.runtime.effects import CancelTimer, Effect, StartTimer
from fedmq_client.role.attachment import publish_to
from fedmq_client.role.operations import Measure, Measured, TaskKey, TaskResult, Upload, task_key
from fedmq_schemas.messages import TaskMessage, Ticket, UploadRequest

AGAIN = 10.0
"""Seconds after which a ticket that has not arrived is requested again."""
SOON = 1.0
"""Seconds after which another ticket is requested in place of one whose URL was refused."""


@dataclass(slots=True)
class _Request:
    task: TaskMessage
    result: TaskResult
    since: float
    measured: Measured


class Uploads:
    """Uploads of finished updates. For each task the latest request alone waits for a ticket."""

    def __init__(self, client: str) -> None:
        self._client = client
        self._requests: dict[TaskKey, _Request] = {}
        self._under_way = 0

    def __bool__(self) -> bool:
        """Returns whether an upload is under way, or waits for its ticket."""
        return self._under_way > 0 or bool(self._requests)

    def begin(self, task: TaskMessage, result: TaskResult, now: float) -> list[Effect]:
        """Begins the upload of an update. Without a ticket, if the task holds the URL."""
        self._under_way += 1
        dropped = self._drop(result.key)
        return [*dropped, Upload(task, result, now) if task.upload_url else Measure(task, result, now)]

    def ended(self) -> None:
        """Counts an effect of this class as ended, by success or failure."""
        self._under_way -= 1

    def measured(self, effect: Measure, found: Measured) -> list[Effect]:
        """Requests a ticket."""
        request = _Request(effect.task, effect.result, effect.since, found)
        self._requests[effect.result.key] = request
        return self._publish(request)

    def waiting(self, ticket: Ticket) -> TaskMessage | None:
        """Returns the task whose upload waits for this ticket; None if none does, as after a repeated answer."""
        request = self._requests.get(task_key(ticket.plan))
        if request is None or request.task.plan != ticket.plan or request.measured.sha256 != ticket.blob.sha256:
            return None
        return request.task

    def awaits_ticket(self, key: TaskKey) -> bool:
        """Returns whether a ticket for this task's update was requested and has not come."""
        return key in self._requests

    def permitted(self, ticket: Ticket) -> list[Effect]:
        """Uploads the update that waits for this ticket. A refusal ends its upload; the combiner has published why."""
        if self.waiting(ticket) is None:
            return []
        request = self._requests[task_key(ticket.plan)]
        dropped = self._drop(request.result.key)
        if ticket.reason:
            return dropped
        self._under_way += 1
        return [*dropped, Upload(request.task, request.result, request.since, ticket)]

    def refused(self, upload: Upload) -> list[Effect]:
        """Requests another ticket soon, unless a later request for the same task waits already."""
        key = upload.result.key
        assert upload.ticket is not None
        if key in self._requests:
            return []
        measured = Measured(upload.ticket.blob.size, upload.ticket.blob.sha256)
        self._requests[key] = _Request(upload.task, upload.result, upload.since, measured)
        return [StartTimer(_timer(key), SOON)]

    def fired(self, timer: str, is_leaving: bool) -> list[Effect]:
        """Requests the ticket of this timer again. A client that is leaving gives it up: it keeps the update."""
        for key, request in list(self._requests.items()):
            if timer == _timer(key):
                return self._drop(key) if is_leaving else self._publish(request)
        return []

    def drop(self, keys: list[TaskKey]) -> list[Effect]:
        """Requests no more tickets for these tasks, whose updates are no longer kept."""
        return [effect for key in keys for effect in self._drop(key)]

    def _publish(self, request: _Request) -> list[Effect]:
        measured = request.measured
        body = UploadRequest(plan=request.task.plan, size=measured.size, sha256=measured.sha256)
        again = StartTimer(_timer(request.result.key), AGAIN)
        return [again, publish_to(request.task.combiner, self._client, body)]

    def _drop(self, key: TaskKey) -> list[Effect]:
        return [CancelTimer(_timer(key))] if self._requests.pop(key, None) is not None else []


def is_ticket_timer(timer: str) -> bool:
    """Returns whether the timer is one of this module."""
    return timer.startswith("ticket:")


def _timer(key: TaskKey) -> str:
    return f"ticket:{key.session}/{key.round}"
