"""Messages that report what happened."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fedmq_schemas.bounds import Data, Index, MessageId, Name, Word, items
from fedmq_schemas.limits import MOST_EVENTS
from fedmq_schemas.messages.base import Body


class Event(Body):
    """Reports what happened (any role → event exchange).

    `name` is one of `fedmq_schemas.records.EVENT_NAMES`. An event about a decision has an id that is derived from the
    decision, so a repeated event is recorded once.
    """

    kind = "event"
    name: Word
    session: Name | None = None
    round: Index | None = None
    client: Word | None = None
    combiner: Word | None = None
    data: Data = Field(default_factory=dict)


class BatchedEvent(Event):
    """One event of an `events` message. Its own `id` and `cause` replace those of the envelope."""

    id: MessageId
    cause: MessageId | None = None


class Events(Body):
    """Reports several events of the same name and session at once (any role → event exchange).

    Published under the same routing key as a single `event`, so a receiver of either receives both.
    """

    kind = "events"
    events: Annotated[tuple[BatchedEvent, ...], items(MOST_EVENTS, least=1)]
