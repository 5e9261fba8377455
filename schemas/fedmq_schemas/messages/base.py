"""What messages are made of: the envelope, the base of all bodies, and the values that several bodies hold."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from fedmq_schemas.bounds import (
    AtLeastOne,
    BlobKey,
    Clock,
    Count,
    Index,
    MessageId,
    Name,
    Sha256,
    Version,
    Word,
    items,
    text,
)
from fedmq_schemas.limits import LONGEST_NOTE, MOST_NOTES

VERSION = 1
MAX_BODY = 64 * 1024

Notes = Annotated[
    tuple[Annotated[str, text(LONGEST_NOTE)], ...],
    items(MOST_NOTES),
    Field(exclude_if=lambda notes: not notes),
]
"""What a result lacks, one sentence each, such as a metric that was not kept. Not sent if there are none."""
TaskName = Literal["train", "validate"]


class Frozen(BaseModel):
    """Base of messages, records and their parts: immutable, and ignores unknown fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Part(Frozen):
    """Base of all that peers send: converts no types, so it accepts what its JSON Schema accepts. Lists become tuples."""

    model_config = ConfigDict(strict=True)


class BlobRef(Part):
    """Refers to a blob: its key in the blob store (`bucket/name`), its size and its hash."""

    key: BlobKey
    size: Count
    sha256: Sha256


class PlanKey(Part):
    """Identifies a plan.

    A `train` plan makes the model of `round` from the model of `round - 1`; a `validate` plan scores the model of `round`
    (0: the seed). `part` numbers the plans of one attempt.
    """

    session: Name
    round: Index
    attempt: AtLeastOne = 1
    part: Index = 0
    action: TaskName = "train"

    def __str__(self) -> str:
        return f"{self.session}/{self.round}/{self.action}/{self.attempt}/{self.part}"


class Body(Part):
    """Base of all bodies.

    `kind` is the message's name on the wire. `refusal` names the event, beside `message.refused`, that reports an invalid
    body to its sender. With `any_version`, the message is read whatever version its envelope states.
    """

    kind: ClassVar[str]
    refusal: ClassVar[str | None] = None
    any_version: ClassVar[bool] = False


class Envelope(Part):
    """The fields around every body.

    `cause` is the id of the message that led to this one. `sender` equals the AMQP user id where the broker checks it.
    `sent_at` is UTC seconds since 1970, by the sender's clock; no decision depends on it.
    """

    kind: Word
    version: Version = VERSION
    id: MessageId
    cause: MessageId | None = None
    alliance: Word
    sender: Word
    sent_at: Clock
