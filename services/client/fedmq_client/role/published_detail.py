"""What a site publishes of a result: its error and its notes, as far as the site's setting lets them leave."""

from __future__ import annotations

from typing import NamedTuple

from fedmq.error_detail import ErrorDetail
from fedmq_client.job.job import Result, Validated

WITHHELD = "the site's own log has the reason"


class Published(NamedTuple):
    """The texts of a result that may leave the site."""

    reason: str
    traceback: str
    notes: tuple[str, ...]


def published(found: Result | Validated, detail: ErrorDetail) -> Published:
    """Returns the texts of a result. Unless `detail` is `full`, none of them is the text of an exception or quotes a value.

    Metrics, and the notes that a trainer adds by `task.note`, are what the trainer publishes; they are not changed.
    """
    if detail == "full":
        return Published(found.reason, found.traceback, tuple(found.notes))
    plain = found.plain or (WITHHELD if found.reason else "")
    return Published(plain, found.frames if detail == "frames" else "", tuple(found.plain_notes))
