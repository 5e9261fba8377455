"""The policy of a session: all its settings, in one frozen model.

The same model is the body of a start message and of `POST /start`, the session file, and the form in the browser. An
unknown key is an error that suggests the nearest known key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fedmq_schemas.bounds import WHOLE, Config, Finite, Integer, LabelMap, MapKey, Plain, Positive, Sha256, Word, text
from fedmq_schemas.limits import LARGEST, LONGEST_KEY, MOST_METRICS, MOST_VALUES

MAX_POLICY = 16 * 1024
LONGEST_TIMEOUT = 7 * 24 * 3600
"""Greatest number of seconds of a time limit."""
LONGEST_SESSION = 366 * 24 * 3600
DEFAULT_MAX_WEIGHT = 10_000_000
LARGEST_WEIGHT = 10**12
"""Greatest `max_weight`, and greatest N of `capped:N`: the sum of the weights of a million updates fits into 64 bits."""
DEFAULT_RULE = "mean"
"""The rule of policies, plans and ledgers that name none."""

Personal = Literal["fresh", "continue"]
"""What a client's local tensors and private state begin with: the seed, or what it kept of an earlier session."""


WEIGHTINGS = r"^(examples|equal|capped:[1-9][0-9]{0,11})$"
ROUND_KEY = r"^[1-9][0-9]{0,6}$"


def _by_round(schema: dict[str, Any]) -> None:
    [value] = schema.pop("patternProperties").values()
    schema |= {"propertyNames": {"pattern": ROUND_KEY}, "additionalProperties": value}


Steps = Annotated[dict[MapKey, Plain], Field(max_length=MOST_VALUES, json_schema_extra=_by_round)]
"""Values by the round from which they are used."""


class Section(BaseModel):
    """Base of the policy and its sections: immutable, rejects unknown keys, converts no types.

    `true` is not a number, and `"3"` is not 3.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _suggest_for_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = [f"unknown key {key!r}: {cls._hint(str(key))}" for key in data if key not in cls.model_fields]
            if unknown:
                raise ValueError("; ".join(unknown))
        return data

    @classmethod
    def received(cls, values: Mapping[str, Any]) -> Self:
        """Returns a message's section, without unknown keys. Raises ValidationError for a wrong value."""
        return cls.model_validate({key: value for key, value in values.items() if key in cls.model_fields})

    @classmethod
    def _hint(cls, key: str) -> str:
        for name, field in cls.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, Section) and key in inner.model_fields:
                return f"did you mean '{name}.{key}'?"
        near = get_close_matches(key, cls.model_fields, n=1)
        return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(cls.model_fields)}"


class Strategy(Section):
    """How the updates change the model: an aggregation rule, then a server optimizer."""

    name: Word = Field("fedavg", description="the server optimizer: fedavg, fedavgm, fedadagrad, fedadam or fedyogi")
    parameters: Annotated[dict[MapKey, Finite], Field(max_length=32)] = Field(
        default_factory=dict, description="parameters of the server optimizer, such as server_learning_rate"
    )
    rule: Word = Field(
        DEFAULT_RULE,
        description="name of the aggregation rule for the updates, such as mean: the exact weighted mean",
        exclude_if=lambda rule: rule == DEFAULT_RULE,
    )


Patterns = Annotated[tuple[Annotated[str, text(1024)], ...], Field(strict=False)]
"""Patterns of tensor names, in which `*` stands for any text: `head/*`."""


class ClientSelection(Section):
    """Which clients take part."""

    where: LabelMap = Field(
        default_factory=dict, description='labels that a client must have, such as {site = "north"}; empty: all clients'
    )
    exclude: Annotated[tuple[Word, ...], Field(strict=False)] = Field(
        (), description="names of clients that take no part"
    )
    fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of these clients that is drawn for each round, rounded up"
    )


class ModelSelection(Section):
    """Which model of the session is the best one."""

    metric: Annotated[str, text(LONGEST_KEY)] = Field(
        "",
        description="metric to compare, such as test/accuracy; empty: a known metric, preferably an evaluator's accuracy; "
        "with tensors.local, clients' own come first, as an evaluator scores the seed's local tensors",
    )
    mode: Literal["", "max", "min"] = Field(
        "",
        description="max or min; empty: by the metric's name: max for acc, f1, dice and the like, min for losses, errors "
        "and names that do not say",
    )


class EarlyStopping(Section):
    """When a session ends before its last round.

    Compares the metric that the section `select` names. With `patience` or `target`, a round starts only after the model of
    the previous round is validated.
    """

    patience: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] | None = Field(
        None, description="end after this many rounds without a better model"
    )
    min_delta: Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)] = Field(
        0.0, description="least improvement of the metric that counts as better"
    )
    target: Finite | None = Field(None, description="end once the metric reaches this value")
    max_time: Annotated[float, Field(gt=0, le=LONGEST_SESSION, allow_inf_nan=False)] | None = Field(
        None, description="start no round later than this many seconds after the session started"
    )

    @property
    def needs_scores(self) -> bool:
        """Whether the decision to stop depends on validations."""
        return self.patience is not None or self.target is not None


class Tensors(Section):
    """Which tensors are trained together, as patterns of names in which `*` stands for any text.

    Shared tensors are trained, sent and summed. Local tensors stay in each client's private state and start as in the seed.
    Frozen tensors never change; each client receives them once. Without `share`, all tensors that are neither local nor
    frozen are shared. With `share`, only the tensors that it names are shared, and all that are not local are frozen.
    """

    share: Patterns = Field((), description="the only shared tensors, such as adapters or LoRA; empty: all others")
    local: Patterns = Field((), description="tensors that stay at each client, such as personal heads or batch norm")
    frozen: Patterns = Field((), description="tensors that never change, such as an embedding or a backbone")


class UpdateBounds(Section):
    """Limits on the L2 norm of one client's delta over its trainable tensors: statistics and counters do not count.

    The section travels whole: a new key here reaches the client's job (`Job.update`) without a change to any message.
    """

    clip_norm: Positive | None = Field(
        None, description="greatest norm; the client scales a longer delta down to it; unset: no limit"
    )
    max_norm: Positive | None = Field(
        None, description="greatest norm; the combiner rejects a longer delta; unset: no limit"
    )


class Retention(Section):
    """Which blobs are kept after a round is committed."""

    keep_updates: Annotated[int, Field(le=1_000_000, json_schema_extra={"minimum": 0}), WHOLE] | Literal["all"] = Field(
        "all", description="all, or number of committed rounds whose updates are kept (0: none)"
    )
    keep_models: Annotated[int, Field(le=1_000_000, json_schema_extra={"minimum": 0}), WHOLE] | Literal["all"] = Field(
        "all",
        description="all, or N to keep the best, the last and every N-th model (0: the best and the last); seeds are always "
        "kept",
    )

    @field_validator("keep_updates", "keep_models")
    @classmethod
    def _not_negative(cls, value: int | str, info: ValidationInfo) -> int | str:
        if isinstance(value, int) and value < 0:
            raise ValueError(f"{info.field_name} must be 'all' or a number of rounds, 0 or more")
        return value


class Policy(Section):
    """The settings of a session. Times are in seconds; numbers of clients are totals over the alliance."""

    name: Annotated[str, text(120)] = Field("", description="name for people; need not be unique")
    seed: Annotated[str, text(1024)] | None = Field(
        None, description="id of the model to start from; unset: the newest model, else the alliance's seed"
    )
    rounds: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] = Field(
        5, description="number of rounds; each makes one model"
    )
    clients_required: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] = Field(
        1, description="least number of accepted updates per round; a round starts once this many clients are available"
    )
    clients_requested: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] | None = Field(
        None, description="greatest number of clients per round; unset: all that are available"
    )
    timeout: Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT)] = Field(
        180.0, description="seconds from the start of a round to its deadline"
    )
    retries: Annotated[int, Field(ge=0, le=1000), WHOLE] = Field(
        2,
        description="number of further attempts at a round with too few updates, before the session fails; they start at "
        "least 1, 2, 4, … 60 s apart",
    )
    wait: Annotated[float, Field(gt=0, le=30 * 24 * 3600)] = Field(
        3600.0, description="seconds that a round waits for enough clients, before the session fails"
    )
    weighting: Word = Field(
        "examples",
        description="weight of an update: examples (their number), equal (1), or capped:N (their number, at most N)",
        json_schema_extra={"pattern": WEIGHTINGS},
    )
    max_weight: Annotated[int, Field(ge=1, le=LARGEST_WEIGHT), WHOLE] = Field(
        DEFAULT_MAX_WEIGHT,
        description="greatest weight of an update, and number of examples, with weighting = examples; a greater one is "
        "rejected",
        exclude_if=lambda weight: weight == DEFAULT_MAX_WEIGHT,
    )
    strategy: Strategy = Field(default_factory=Strategy)
    train: Config = Field(default_factory=dict, description="configuration that is passed to the trainer")
    schedule: Annotated[dict[MapKey, Steps], Field(max_length=MOST_METRICS)] = Field(
        default_factory=dict,
        description="keys of train that change during the session: [schedule.learning_rate] 1 = 0.1, 20 = 0.01 sets values "
        "from rounds 1 and 20 on",
    )
    clients: ClientSelection = Field(default_factory=ClientSelection)
    package: Sha256 | None = Field(
        None, description="SHA-256 of the package that a client must run (`fedmq check` prints it); unset: any"
    )
    tensors: Tensors = Field(default_factory=Tensors)
    personal: Personal = Field(
        "fresh",
        description="fresh: a client's local tensors are the seed's at first, and `task.state` is empty; continue: both are "
        "as the client kept them at the end of its last session with the same package and local tensors",
        exclude_if=lambda personal: personal == "fresh",
    )
    update: UpdateBounds = Field(default_factory=UpdateBounds)
    select: ModelSelection = Field(default_factory=ModelSelection)
    stop: EarlyStopping = Field(default_factory=EarlyStopping)
    validation: Literal["with_training", "separate", "none"] = Field(
        "with_training",
        description="with_training: a client validates each model that it receives for training, and the last one; "
        "separate: all clients validate each model in separate tasks; none: only evaluators validate",
    )
    validation_timeout: Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT)] = Field(
        120.0, description="seconds until the deadline of separate validation tasks"
    )
    retention: Retention = Field(default_factory=Retention)
    random_seed: Integer | None = Field(
        None, description="seed of all random draws; unset: derived from the session's id"
    )

    @field_validator("weighting")
    @classmethod
    def _known_weighting(cls, value: str) -> str:
        if re.fullmatch(WEIGHTINGS.removesuffix("$"), value):
            return value
        raise ValueError(f"weighting {value!r} is not known: examples, equal, or capped:N with N of 1 to 12 digits")

    @field_validator("schedule")
    @classmethod
    def _by_rounds(cls, value: dict[str, dict[str, Plain]]) -> dict[str, dict[str, Plain]]:
        for name, steps in value.items():
            for number in steps:
                if not re.fullmatch(ROUND_KEY.removesuffix("$"), number):
                    raise ValueError(f"schedule.{name} has the key {number!r}: keys are round numbers, from 1")
        return value

    def config(self, number: int) -> dict[str, Plain]:
        """Returns the trainer's configuration in round `number`, with the latest step of each schedule."""
        values = dict(self.train)
        for name, steps in self.schedule.items():
            begun = [int(first) for first in steps if int(first) <= number]
            if begun:
                values[name] = steps[str(max(begun))]
        return values

    @model_validator(mode="after")
    def _requested_covers_required(self) -> Policy:
        if self.clients_requested is not None and self.clients_requested < self.clients_required:
            raise ValueError(
                f"clients_requested ({self.clients_requested}) is below clients_required ({self.clients_required}): "
                "no round could reach its minimum"
            )
        return self

    @model_validator(mode="after")
    def _fits_into_messages(self) -> Policy:
        """Limits the size: each plan and task carries the trainer's configuration, and events carry the policy."""
        size = len(self.model_dump_json())
        if size > MAX_POLICY:
            raise ValueError(
                f"the policy has {size} bytes, more than the limit of {MAX_POLICY}: move large values into the package"
            )
        return self


def weight_of(weighting: str, examples: int) -> int:
    """Returns the weight of an update from `examples` training examples, under a policy's `weighting`: 0 of no examples."""
    if weighting == "examples":
        return examples
    return min(examples, 1 if weighting == "equal" else int(weighting.partition(":")[2]))


def weight_objection(weighting: str, max_weight: int, weight: int) -> str | None:
    """Returns why an update or a validation of this weight is rejected under a policy's `weighting`, or None."""
    if weighting == "examples":
        limit, why = max_weight, "the policy's max_weight: raise it if a client has that many examples"
    else:
        limit, why = weight_of(weighting, weight), f"the greatest weight with weighting = {weighting}"
    return f"its weight {weight} is over {limit}, {why}" if weight > limit else None
