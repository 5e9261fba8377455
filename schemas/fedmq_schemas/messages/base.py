"""What messages are made of: the envelope, the base of all bodies, and the values that several bodies hold."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fedmq_schemas.limits import DEEPEST, LONGEST_NOTE, MOST_NOTES
from fedmq_schemas.policy import Plain

VERSION = 1
MAX_BODY = 64 * 1024
MAX_LISTED_CLIENTS = 500


def _shallow(metrics: dict[str, Any]) -> dict[str, Any]:
    for name, value in metrics.items():
        if _levels(value) > DEEPEST:
            raise ValueError(f"{name[:50]} is nested more than {DEEPEST} deep")
    return metrics


def _levels(value: Any) -> int:
    """Returns how deep lists and maps are nested. The recursion is bounded: `Plain` accepts at most 255 levels."""
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(map(_levels, value.values() if isinstance(value, dict) else value), default=0)


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Weight = Annotated[int, Field(ge=1, lt=2**53)]
Metrics = Annotated[dict[str, Plain], AfterValidator(_shallow)]
Notes = Annotated[
    tuple[Annotated[str, Field(max_length=LONGEST_NOTE)], ...],
    Field(max_length=MOST_NOTES, exclude_if=lambda notes: not notes),
]
"""What a result lacks, one sentence each, such as a metric that was not kept. Not sent if there are none."""
TaskName = Literal["train", "validate"]


class Frozen(BaseModel):
    """Base of messages, records and their parts: immutable, and ignores unknown fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class BlobRef(Frozen):
    """Refers to a blob: its key in the blob store (`bucket/name`), its size and its hash."""

    key: Annotated[str, Field(min_length=1, max_length=1024)]
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


class PlanKey(Frozen):
    """Identifies a plan.

    A `train` plan makes the model of `round` from the model of `round - 1`; a `validate` plan scores the model of `round`
    (0: the seed). `part` numbers the plans of one attempt.
    """

    session: Name
    round: Annotated[int, Field(ge=0)]
    attempt: Annotated[int, Field(ge=1)] = 1
    part: Annotated[int, Field(ge=0)] = 0
    action: TaskName = "train"

    def __str__(self) -> str:
        return f"{self.session}/{self.round}/{self.action}/{self.attempt}/{self.part}"


class Body(Frozen):
    """Base of all bodies.

    `kind` is the message's name on the wire. `refusal` names the event, beside `message.refused`, that reports an invalid
    body to its sender. With `any_version`, the message is read whatever version its envelope states.
    """

    kind: ClassVar[str]
    refusal: ClassVar[str | None] = None
    any_version: ClassVar[bool] = False


class Envelope(Frozen):
    """The fields around every body.

    `cause` is the id of the message that led to this one. `sender` equals the AMQP user id where the broker checks it.
    `sent_at` is UTC seconds since 1970, by the sender's clock; no decision depends on it.
    """

    kind: str
    version: int = VERSION
    id: Annotated[str, Field(min_length=1, max_length=200)]
    cause: str | None = None
    alliance: str
    sender: str
    sent_at: Annotated[float, Field(allow_inf_nan=False)]
