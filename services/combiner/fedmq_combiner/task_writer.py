"""Writes tasks and tickets with the URLs that a client needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fedmq.blobs.base import Blobs
from fedmq.codec import fields_of
from fedmq_combiner.tickets import TICKET_SECONDS
from fedmq_schemas import keys
from fedmq_schemas.messages import PlanKey, TaskMessage, Ticket

URL_SLACK = 300.0
"""Seconds for which a URL is valid after the task's deadline."""
SIGN_AGAIN = 60.0
"""Seconds after which the URL of a model is signed anew, so that it loses little of its slack."""


class TaskWriter:
    """Writes task messages for sending, with presigned URLs.

    A core leaves the URLs of its tasks empty and this class signs them, so no core, event or record ever holds a URL. The
    tasks of a plan share the URL of the model. A client for which `has_tickets` is false, which is of release 0.2, gets with
    its train task a URL for its upload, to a fresh key. `now()`: seconds on a monotonic clock.
    """

    def __init__(
        self,
        blobs: Blobs,
        new_id: Callable[[], str],
        now: Callable[[], float],
        has_tickets: Callable[[str], bool],
    ) -> None:
        self._blobs = blobs
        self._new_id = new_id
        self._has_tickets = has_tickets
        self._now = now
        self._signed_for: tuple[PlanKey, float] | None = None
        self._signed_at = 0.0
        self._model_urls: dict[str, str] = {}

    def fields(self, task: TaskMessage) -> dict[str, Any]:
        """Returns the fields of the task message, with URLs."""
        plan, seconds = task.plan, task.timeout + URL_SLACK
        if self._signed_for != (plan, task.timeout) or self._now() - self._signed_at > SIGN_AGAIN:
            self._signed_for, self._signed_at = (plan, task.timeout), self._now()
            self._model_urls = {"model_url": self._blobs.presign_get(task.model.key, seconds)}
            if task.base is not None:
                self._model_urls["base_url"] = self._blobs.presign_get(task.base.key, seconds)
        fields = fields_of(task) | self._model_urls
        if plan.action == "train" and not self._has_tickets(task.client):
            key = keys.upload_blob(plan.session, plan.round, task.client, self._new_id())
            fields["upload_key"] = key
            fields["upload_url"] = self._blobs.presign_put(key, seconds)
        return fields


class TicketWriter:
    """Writes tickets for sending. A core leaves the URL empty, so no core, event or record ever holds one."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def fields(self, ticket: Ticket) -> dict[str, Any]:
        """Returns the fields of the ticket, with URL and headers unless it is a refusal."""
        fields = fields_of(ticket)
        if not ticket.reason:
            upload = self._blobs.presign_upload(ticket.blob, TICKET_SECONDS)
            fields |= {"url": upload.url, "headers": dict(upload.headers)}
        return fields
