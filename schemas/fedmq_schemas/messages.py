"""Every message: the envelope, and one frozen, self-validating body for each kind.

On the wire a message is one map: the envelope's fields with the body under `body`, in msgpack, or in JSON where the
content type says so. Receivers ignore fields that they don't know; `version` changes only when an old receiver would
misunderstand. Durations are seconds, sizes are bytes, `sha256` is lower-case hex. Model, update and partial blobs are
safetensors and never cross the broker.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fedmq_schemas.limits import DEEPEST
from fedmq_schemas.policy import Plain, Policy

VERSION = 1
MAX_BODY = 64 * 1024
MAX_LISTED_CLIENTS = 500


def _shallow(metrics: dict[str, Any]) -> dict[str, Any]:
    for name, value in metrics.items():
        if isinstance(value, (list, dict)) and _depth(value) > DEEPEST:
            raise ValueError(f"{name[:50]} is nested more than {DEEPEST} deep")
    return metrics


def _depth(value: list[Any] | dict[str, Any]) -> int:
    """Levels of lists and maps."""
    depth, level = 0, [value]
    while level:
        depth += 1
        inside = [item for holder in level for item in (holder.values() if isinstance(holder, dict) else holder)]
        level = [item for item in inside if isinstance(item, (list, dict))]
    return depth


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Weight = Annotated[int, Field(ge=1, lt=2**53)]
Metrics = Annotated[dict[str, Plain], AfterValidator(_shallow)]
TaskName = Literal["train", "validate"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class BlobRef(Frozen):
    """A reference to a blob: its key in the blob store (`bucket/name`), its size and its hash."""

    key: Annotated[str, Field(min_length=1, max_length=1024)]
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Body(Frozen):
    """Base of all bodies. `kind` is the message's name on the wire. `refusal`: the event that tells the sender of a body
    that does not validate, beside `message.refused`."""

    kind: ClassVar[str]
    refusal: ClassVar[str | None] = None


class Start(Body):
    """Anybody who may start → reducer. Starts a session; the envelope's id is the session's id, so the same message
    twice starts once. Answered by the event `session.queued`, or `session.refused` with the reason."""

    kind = "start"
    refusal = "session.refused"
    policy: Policy = Field(default_factory=Policy)


class Stop(Body):
    """Anybody who may start → reducer. Ends a session now, or after the round that is open. Answered by the event
    `session.stopped`, or `message.refused` where no such session is open."""

    kind = "stop"
    session: Name
    when: Literal["now", "after_round"] = "now"


class Attach(Body):
    """Client → reducer: asks for a combiner. Answered by `grant` or `wait`. `weight` is the announced number of
    examples; it scales the first round's sums and decides nothing else. `speaks`: lowest and highest version."""

    kind = "attach"
    labels: dict[str, str] = Field(default_factory=dict)
    tasks: tuple[TaskName, ...] = ("train", "validate")
    weight: Weight = 1
    package: Sha256 | None = None
    software: str = ""
    speaks: tuple[int, int] = (VERSION, VERSION)


class Grant(Body):
    """Reducer → client: work with this combiner. `ordinal` of `count` names the client's part of a common data set;
    `presence` is how often it should say that it is there, in seconds."""

    kind = "grant"
    combiner: Name
    ordinal: Annotated[int, Field(ge=0)]
    count: Annotated[int, Field(ge=1)]
    presence: Annotated[float, Field(gt=0)]


class Wait(Body):
    """Reducer → client: no combiner now; ask again after so many seconds."""

    kind = "wait"
    seconds: Annotated[float, Field(gt=0)]
    reason: str


class ClientHello(Body):
    """Client → its combiner, when it starts, reconnects or is granted it. Answered by every task still open for it."""

    kind = "client_hello"


class ClientPresence(Body):
    """Client → its combiner, every presence period; `leaving` at a clean stop."""

    kind = "client_presence"
    leaving: bool = False


class CombinerHello(Body):
    """Combiner → reducer, when it starts or reconnects. Answered by its open plans and then `welcome`."""

    kind = "combiner_hello"
    speaks: tuple[int, int] = (VERSION, VERSION)


class Welcome(Body):
    """Reducer → combiner: all your open plans have been sent; what you hold for others is superseded. Also sent when a
    reducer becomes active: then it asks for a full `combiner_presence`."""

    kind = "welcome"
    epoch: int
    presence: Annotated[float, Field(gt=0)]


class CombinerPresence(Body):
    """Combiner → reducer, every presence period and at once when clients come or go. With `full`, `present` lists all
    clients (in several messages of 500 where there are more, `more` on all but the last); else only changes."""

    kind = "combiner_presence"
    clients: Annotated[int, Field(ge=0)]
    present: tuple[Name, ...] = ()
    gone: tuple[Name, ...] = ()
    full: bool = False
    more: bool = False
    leaving: bool = False


class PlanKey(Frozen):
    """Which plan: `part` numbers the plans of one attempt. A train plan makes model `round` from model `round - 1`; a
    validate plan scores model `round` (0: the seed)."""

    session: Name
    round: Annotated[int, Field(ge=0)]
    attempt: Annotated[int, Field(ge=1)] = 1
    part: Annotated[int, Field(ge=0)] = 0
    action: TaskName = "train"

    def __str__(self) -> str:
        return f"{self.session}/{self.round}/{self.action}/{self.attempt}/{self.part}"


class Plan(Body):
    """Reducer → combiner: its part of an attempt. Train: send tasks, fold the updates, answer with `partial` to
    `reply_to` within `timeout` seconds. Validate: send tasks; the clients answer the reducer themselves.
    `exponents` are those of the model's tensors in sorted order of their names. More than 500 clients go by reference
    (a JSON list of names)."""

    kind = "plan"
    plan: PlanKey
    epoch: int
    reply_to: Name
    clients: tuple[Name, ...] = ()
    clients_ref: BlobRef | None = None
    model: BlobRef
    base: BlobRef | None = None
    exponents: tuple[int, ...] = ()
    timeout: float
    rounds: int
    random_seed: int
    config: dict[str, Plain] = Field(default_factory=dict)
    weighting: str = "examples"
    validate_model: bool = True
    clip_norm: float | None = None
    max_norm: float | None = None


class VoidPlan(Body):
    """Reducer → combiner: these plans are superseded, or with `session` all of a session that has ended. Send cancels to
    their clients, fold nothing more."""

    kind = "void_plan"
    epoch: int
    plans: tuple[PlanKey, ...] = ()
    session: Name | None = None


class TaskMessage(Body):
    """Combiner → client: one unit of work. Its key is (session, round, client); asked again, the client publishes the
    update that it keeps. Answered to `combiner` by `update` or `decline` (train), to the reducer by `validation`
    (validate). `base`: the tensors that don't travel with each model. The URLs are presigned and filled in when it is
    sent; the update goes to `upload_key`. `clip_norm`: the longest delta; a longer one is scaled down."""

    kind = "task"
    plan: PlanKey
    client: Name
    combiner: Name
    model: BlobRef
    model_url: str = ""
    base: BlobRef | None = None
    base_url: str = ""
    upload_key: str = ""
    upload_url: str = ""
    timeout: float
    rounds: int
    seed: int
    config: dict[str, Plain] = Field(default_factory=dict)
    weighting: str = "examples"
    validate_model: bool = True
    clip_norm: float | None = None


class Cancel(Body):
    """Combiner → client: the plan's work is no longer wanted. With `session_over` the client forgets what it keeps."""

    kind = "cancel"
    plan: PlanKey
    session_over: bool = False


class Update(Body):
    """Client → combiner: the result of a train task, in the blob store before this is published. The blob holds the
    weight delta to the model `model` (a key); `seconds` tells where the time went."""

    kind = "update"
    plan: PlanKey
    model: str
    blob: BlobRef
    weight: Weight
    encoding: Literal["delta/f32"] = "delta/f32"
    metrics: Metrics = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)


class Decline(Body):
    """Client → combiner: there will be no update for the task, and why."""

    kind = "decline"
    plan: PlanKey
    outcome: Literal["abstained", "failed"]
    reason: str
    traceback: str = ""


class Progress(Body):
    """Client → combiner, at most once a second while training: fraction done, and the trainer's own metrics."""

    kind = "progress"
    plan: PlanKey
    fraction: Annotated[float, Field(ge=0, le=1)]
    metrics: Metrics = Field(default_factory=dict)


class Validation(Body):
    """Client → reducer: the metrics of a model on the client's data (`scope` client) or on a common test set (`test`).
    `weight` None: not known, such metrics are averaged equally."""

    kind = "validation"
    plan: PlanKey
    model: str
    scope: Literal["client", "test"]
    weight: Weight | None
    metrics: Metrics
    reason: str = ""


class Partial(Body):
    """Combiner → `reply_to`: the folded updates of a plan. `sum` is None where no update was accepted. `ledger` tells
    the outcome of every task; `counts` how many of each outcome."""

    kind = "partial"
    plan: PlanKey
    epoch: int
    sum: BlobRef | None
    ledger: BlobRef
    total_weight: Annotated[int, Field(ge=0)]
    counts: dict[str, int]


class Event(Body):
    """All → event exchange: something happened. `name` is one of `fedmq_schemas.records.EVENT_NAMES`. Events that tell a
    decision carry an id derived from it, their envelope's or, told with others, their own, so telling twice is
    harmless."""

    kind = "event"
    name: str
    session: Name | None = None
    round: int | None = None
    client: str | None = None
    combiner: str | None = None
    data: dict[str, Plain] = Field(default_factory=dict)


class ToldEvent(Event):
    """One of several events in a message: `id` and `cause` are its own, and not the envelope's."""

    id: Annotated[str, Field(min_length=1, max_length=200)]
    cause: str | None = None


class Events(Body):
    """All → event exchange: events of one name and one session that came at once are told together. Whoever hears `event`
    messages hears these too."""

    kind = "events"
    events: Annotated[tuple[ToldEvent, ...], Field(min_length=1)]


BODIES: dict[str, type[Body]] = {
    body.kind: body
    for body in (
        Start, Stop, Attach, Grant, Wait, ClientHello, ClientPresence, CombinerHello, Welcome, CombinerPresence,
        Plan, VoidPlan, TaskMessage, Cancel, Update, Decline, Progress, Validation, Partial, Event, Events,
    )
}  # fmt: skip


class Envelope(Frozen):
    """What surrounds every body. `cause` is the id of the message that led to this one: a trace. `sender` equals the
    AMQP user id where the broker checks it. `sent_at` is UTC seconds since 1970, for people only."""

    kind: str
    version: int = VERSION
    id: Annotated[str, Field(min_length=1, max_length=200)]
    cause: str | None = None
    alliance: str
    sender: str
    sent_at: float
