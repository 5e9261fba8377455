"""Writes task messages with the URLs that a client needs for its task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fedmq.blobs.base import Blobs
from fedmq.codec import fields_of
from fedmq_schemas import keys
from fedmq_schemas.messages import TaskMessage

URL_SLACK = 3600.0
"""Seconds for which a URL stays valid after the time for the task is up."""
SIGN_AGAIN = 60.0
"""Seconds after which a URL of a model is signed anew, so that it loses little of its slack."""


class TaskWriter:
    """Writes tasks for sending. A core leaves the URLs of its tasks empty and this class signs them, so no core, event or
    record ever holds a URL.

    The tasks of a plan differ in client and seed alone. What they share is written, and the GET of the model signed, once
    for all that follow each other. Each train task receives a PUT of its own for a fresh key. `now()`: seconds on a
    monotonic clock.
    """

    def __init__(self, blobs: Blobs, new_id: Callable[[], str], now: Callable[[], float]) -> None:
        self._blobs = blobs
        self._new_id = new_id
        self._now = now
        self._shared: dict[str, Any] | None = None
        """The last task without client and seed."""
        self._shared_fields: dict[str, Any] = {}
        self._signed_at = 0.0

    def fields(self, task: TaskMessage) -> dict[str, Any]:
        """Returns the fields of the task message, with URLs."""
        shared = {**vars(task), "client": "", "seed": 0}
        if shared != self._shared or self._now() - self._signed_at > SIGN_AGAIN:
            self._shared, self._shared_fields = shared, self._with_model_urls(task)
            self._signed_at = self._now()
        fields = {**self._shared_fields, "client": task.client, "seed": task.seed}
        plan = task.plan
        if plan.action == "train":
            key = keys.upload_blob(plan.session, plan.round, task.client, self._new_id())
            fields["upload_key"] = key
            fields["upload_url"] = self._blobs.presign_put(key, task.timeout + URL_SLACK)
        return fields

    def _with_model_urls(self, task: TaskMessage) -> dict[str, Any]:
        seconds = task.timeout + URL_SLACK
        fields = fields_of(task) | {"model_url": self._blobs.presign_get(task.model.key, seconds)}
        if task.base is not None:
            fields["base_url"] = self._blobs.presign_get(task.base.key, seconds)
        return fields
