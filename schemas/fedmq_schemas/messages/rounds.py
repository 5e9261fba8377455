"""Messages of a round: plans, tasks and their results."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from fedmq_schemas.bounds import (
    AtLeastOne,
    BlobKey,
    BlobUrl,
    Config,
    Count,
    Exponent,
    Index,
    Integer,
    Listed,
    Metrics,
    Name,
    Norm,
    OutcomeCounts,
    Reason,
    Seconds,
    Sha256,
    Timings,
    Total,
    Traceback,
    Weight,
    Word,
    items,
    text,
)
from fedmq_schemas.limits import LONGEST_NOTE, MOST_REASONS
from fedmq_schemas.messages.base import BlobRef, Body, Notes, Part, PlanKey
from fedmq_schemas.policy import DEFAULT_MAX_WEIGHT, DEFAULT_RULE, Personal, UpdateBounds


def _valid(section: dict[str, Any]) -> dict[str, Any]:
    if section:
        UpdateBounds.received(section)
    return section


UNBOUNDED = UpdateBounds()


class ForClients(Part):
    """Base of the bodies that hold what a policy says to the clients: its section `update`, and `personal`.

    The section is a map without the keys that have their default, so that a combiner passes on keys that it does not know.
    An empty section is not sent, nor is `personal` if it is `fresh`.
    """

    update: Annotated[Config, AfterValidator(_valid)] = Field(
        default_factory=dict,
        exclude_if=lambda section: not section,
        json_schema_extra={"properties": UpdateBounds.model_json_schema()["properties"]},
    )
    personal: Personal = Field("fresh", exclude_if=lambda personal: personal == "fresh")


class PersonalStart(Part):
    """What a client's local tensors and private state began with, in a session whose policy is `personal = "continue"`.

    `continued`: with what the client kept of `session`. `fresh`: with the seed's, for `reason`.
    """

    outcome: Literal["continued", "fresh"]
    session: Name | None = Field(None, exclude_if=lambda session: session is None)
    reason: Annotated[str, text(LONGEST_NOTE)] = Field("", exclude_if=lambda reason: not reason)


class Plan(ForClients, Body):
    """Assigns a combiner its part of an attempt (reducer → combiner).

    Train: the combiner sends tasks, folds the updates, and sends `partial` to `reply_to` within `timeout` seconds.
    Validate: it sends tasks, and the clients answer the reducer directly. More than 500 clients are listed in the blob
    `clients_ref` (a JSON list of names) and not in `clients`. `rule` aggregates the updates. `exponents` scale the
    fixed-point sums of the model's tensors, in the order of their sorted names. `base` holds the tensors that are not
    in every model. `epoch` is the reducer's lease epoch. `update` is the policy's section; `clip_norm` and `max_norm` repeat
    two of its keys. `max_weight` is the policy's. `json_readers` are those of the clients that are answered in JSON.
    """

    kind = "plan"
    plan: PlanKey
    epoch: Count
    reply_to: Name
    clients: Listed = ()
    clients_ref: BlobRef | None = None
    model: BlobRef
    base: BlobRef | None = None
    exponents: Annotated[tuple[Exponent, ...], items()] = ()
    timeout: Seconds
    rounds: Index
    random_seed: Integer
    config: Config = Field(default_factory=dict)
    weighting: Word = "examples"
    validate_model: bool = True
    clip_norm: Norm | None = None
    max_norm: Norm | None = None
    rule: Word = Field(DEFAULT_RULE, exclude_if=lambda rule: rule == DEFAULT_RULE)
    max_weight: Weight = Field(DEFAULT_MAX_WEIGHT, exclude_if=lambda weight: weight == DEFAULT_MAX_WEIGHT)
    json_readers: Listed = Field((), exclude_if=lambda names: not names)


class VoidPlan(Body):
    """Supersedes plans, or with `session` all plans of a session that has ended (reducer → combiner).

    The combiner cancels the tasks of these plans and folds no more updates for them.
    """

    kind = "void_plan"
    epoch: Count
    plans: Annotated[tuple[PlanKey, ...], items()] = ()
    session: Name | None = None


class TaskMessage(ForClients, Body):
    """Assigns one unit of work (combiner → client).

    A train task is answered to `combiner` by `update` or `decline`; a validate task to the reducer by `validation`. The
    task's key is (session, round, action): for a repeated task the client publishes the update that it keeps. `base`
    holds the tensors that are not in every model. The URLs are presigned when the task is sent, and expire five minutes
    after its deadline. `update` is the policy's section. Its `clip_norm`, which is repeated, is the greatest L2 norm of a
    delta's trainable tensors; the client scales a longer one down. `upload_key` and `upload_url` are set for a client whose
    `client_hello` does not state `tickets`: it uploads its update there, and sends no `upload`.
    """

    kind = "task"
    plan: PlanKey
    client: Name
    combiner: Name
    model: BlobRef
    model_url: BlobUrl = ""
    base: BlobRef | None = None
    base_url: BlobUrl = ""
    upload_key: Annotated[str, text(1024)] = ""
    upload_url: BlobUrl = ""
    timeout: Seconds
    rounds: Index
    seed: Integer
    config: Config = Field(default_factory=dict)
    weighting: Word = "examples"
    validate_model: bool = True
    clip_norm: Norm | None = None

    @property
    def bounds(self) -> UpdateBounds:
        """The policy's section `update`. A sender that does not know the section sends `clip_norm` alone."""
        if self.clip_norm is None and not self.update:
            return UNBOUNDED
        return UpdateBounds.received({"clip_norm": self.clip_norm, **self.update})


class Cancel(Body):
    """Cancels a client's work on a plan (combiner → client).

    With `session_over`, the client also deletes what it keeps for the session.
    """

    kind = "cancel"
    plan: PlanKey
    session_over: bool = False


class UploadRequest(Body):
    """Requests a ticket to upload an update (client → combiner).

    Sent after the training. Answered by `ticket`. May be repeated: the same plan and content give the same key.
    """

    kind = "upload"
    plan: PlanKey
    size: Count
    sha256: Sha256


HeaderMap = Annotated[
    dict[Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")], Annotated[str, Field(pattern=r"^[ -~]{0,512}$")]],
    Field(max_length=16),
]


class Ticket(Body):
    """Permits the upload of an update, or refuses it (combiner → client).

    The client puts the announced content to `url` with `headers` as they are, and then publishes `update` with this
    `blob`. The URL expires five minutes after it was made, and accepts no other content. If `reason` is not empty, the
    upload is refused: the update would be too large, or the client has no such task.
    """

    kind = "ticket"
    plan: PlanKey
    blob: BlobRef
    url: BlobUrl = ""
    headers: HeaderMap = Field(default_factory=dict)
    reason: Reason = ""


class Update(Body):
    """Reports the result of a train task (client → combiner).

    Published after the upload of `blob`, which holds the weight delta to `model` (a blob key). `weight` is at least 1: a
    training of no examples is answered by `decline`. `seconds` maps each step, such as `train`, to its duration. `notes` say
    what the result lacks, such as a metric that was not kept. `personal` is stated if the task's is `continue`.
    """

    kind = "update"
    plan: PlanKey
    model: BlobKey
    blob: BlobRef
    weight: Weight
    encoding: Literal["delta/f32"] = "delta/f32"
    metrics: Metrics = Field(default_factory=dict)
    seconds: Timings = Field(default_factory=dict)
    notes: Notes = ()
    personal: PersonalStart | None = Field(None, exclude_if=lambda personal: personal is None)


class UpdateOutcome(Body):
    """Reports what became of an update, for the site's log (combiner → client).

    Sent only to a client that states its `instance`. `discarded`: the update was late, repeated or superseded.
    """

    kind = "update_outcome"
    plan: PlanKey
    outcome: Literal["accepted", "rejected", "discarded"]
    reason: Reason = ""


class Decline(Body):
    """Reports that a task yields no update (client → combiner).

    `abstained`: the trainer returned nothing or used no examples. `failed`: the trainer raised an error.
    """

    kind = "decline"
    plan: PlanKey
    outcome: Literal["abstained", "failed"]
    reason: Reason
    traceback: Traceback = ""


class Progress(Body):
    """Reports the progress of a task, at most once per second (client → combiner).

    `fraction` is between 0 and 1. `metrics` are the trainer's own. `place` is where in its code the trainer
    is, such as `trainer.py:18 in train`. It is sent once, shortly before the deadline. The combiner passes on the place of a
    validation, whose answer the reducer awaits (combiner → reducer), and names the `client`.
    """

    kind = "progress"
    plan: PlanKey
    fraction: Annotated[float, Field(ge=0, le=1)]
    metrics: Metrics = Field(default_factory=dict)
    place: Annotated[str, text(LONGEST_NOTE)] = Field("", exclude_if=lambda place: not place)
    client: Name | None = Field(None, exclude_if=lambda client: client is None)


class Validation(Body):
    """Reports the metrics of a model at one client (client → reducer).

    `scope` is `client` for the client's own data and `test` for a common test set. `weight` is the number of examples; with
    None, the client's metrics are averaged with equal weights. `reason` says why there is no score: the validation failed,
    with its `traceback`, or used no examples, or an evaluator has no test set. `notes` say what the metrics lack.
    """

    kind = "validation"
    plan: PlanKey
    model: BlobKey
    scope: Literal["client", "test"]
    weight: Weight | None
    metrics: Metrics
    reason: Reason = ""
    traceback: Traceback = Field("", exclude_if=lambda traceback: not traceback)
    notes: Notes = ()


class OutcomeReason(Part):
    """Why tasks have an outcome other than accepted. `count`: the number of tasks whose reasons differ in numbers only."""

    outcome: Word
    reason: Annotated[str, text(LONGEST_NOTE)]
    count: AtLeastOne


class Partial(Body):
    """Reports the folded updates of a plan (combiner → `reply_to`).

    `sum` is None if no update was accepted. `ledger` lists the outcome of every task; `counts` holds the number of tasks per
    outcome. `reasons` are those of tasks without an accepted update, the most frequent ones first.
    """

    kind = "partial"
    plan: PlanKey
    epoch: Count
    sum: BlobRef | None
    ledger: BlobRef
    total_weight: Total
    counts: OutcomeCounts
    reasons: Annotated[tuple[OutcomeReason, ...], items(MOST_REASONS)] = Field(
        (), exclude_if=lambda reasons: not reasons
    )
