"""The policy: everything that a session decides, in one frozen model.

It is the start message, the body of `POST /start`, the control form's fields and the session file. Unknown keys are
errors that suggest the nearest known key.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetPydanticSchema,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)

MAX_POLICY = 16 * 1024

Plain = Annotated[Any, GetPydanticSchema(lambda _, handler: handler(JsonValue))]
"""Whatever JSON can say: text, number, bool, None, and lists and maps of these, at most 255 deep."""


class Section(BaseModel):
    """A part of the policy: frozen, and it knows its keys. Strict: `true` is no number and `"3"` is not 3."""

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
    def _hint(cls, key: str) -> str:
        for name, field in cls.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, Section) and key in inner.model_fields:
                return f"did you mean '{name}.{key}'?"
        near = get_close_matches(key, cls.model_fields, n=1)
        return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(cls.model_fields)}"


class Strategy(Section):
    """How the mean of the updates becomes the next model."""

    name: str = Field("fedavg", description="fedavg, fedavgm, fedadagrad, fedadam or fedyogi")
    parameters: dict[str, float] = Field(
        default_factory=dict, description="the server optimizer's own, e.g. server_learning_rate"
    )


Patterns = Annotated[tuple[str, ...], Field(strict=False)]
"""Names of tensors; `*` stands for any text: `head/*`."""


class ClientSelection(Section):
    """Which clients take part."""

    where: dict[str, str] = Field(
        default_factory=dict, description='labels that a client must have: {site = "north"}; none: all clients'
    )
    exclude: Annotated[tuple[str, ...], Field(strict=False)] = Field((), description="names of clients to leave out")
    fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="part of them that is drawn for each round, rounded up"
    )


class ModelSelection(Section):
    """Which model of the session is its best one."""

    metric: str = Field("", description="e.g. test/accuracy; none: what there is, an evaluator's accuracy first")
    mode: Literal["", "max", "min"] = Field("", description="max or min; none: max for accuracy and the like, else min")


class EarlyStopping(Section):
    """When to end before all rounds are made. What counts is the selected metric; to know it, a round waits for the
    validations of the model before it."""

    patience: Annotated[int, Field(ge=1)] | None = Field(None, description="rounds without a better model")
    min_delta: Annotated[float, Field(ge=0)] = Field(0.0, description="what a model must be better by, to be better")
    target: float | None = Field(None, description="value of the metric that is good enough")
    max_time: Annotated[float, Field(gt=0)] | None = Field(None, description="seconds after which no new round begins")

    @property
    def needs_scores(self) -> bool:
        return self.patience is not None or self.target is not None


class Tensors(Section):
    """Which tensors travel. Names are patterns, `*` stands for any text. Local tensors stay in each client's state and
    begin as the seed's; frozen ones never change, are sent once and kept by their hash. All others are shared: trained,
    sent and summed. With `share`, only what it names is shared, and what is neither shared nor local is frozen."""

    share: Patterns = Field((), description="the only ones that are trained together: adapters, LoRA; none: all others")
    local: Patterns = Field((), description="stay at each client: personal heads, batch norm")
    frozen: Patterns = Field((), description="never change: an embedding, a backbone")


class UpdateBounds(Section):
    """Bounds on one client's update, by the L2 norm of its delta."""

    clip_norm: Annotated[float, Field(gt=0)] | None = Field(
        None, description="the client scales a longer delta down to this norm"
    )
    max_norm: Annotated[float, Field(gt=0)] | None = Field(None, description="the combiner rejects a longer delta")


class Retention(Section):
    """What stays in the blob store after a round is committed."""

    keep_updates: int | Literal["all"] = Field(
        "all", description="all, or for how many committed rounds the clients' updates are kept (0: none)"
    )

    keep_models: int | Literal["all"] = Field(
        "all",
        description="all, or best and last and every so many-th model (0: best and last alone); seeds always stay",
    )

    @field_validator("keep_updates", "keep_models")
    @classmethod
    def _not_negative(cls, value: int | str, info: ValidationInfo) -> int | str:
        if isinstance(value, int) and value < 0:
            raise ValueError(f"{info.field_name} must be 'all' or a number of rounds, 0 or more")
        return value


class Policy(Section):
    """What a session does. Times are seconds; counts of clients are totals over the alliance."""

    name: str = Field("", max_length=120, description="a name for people; need not be unique")
    seed: str | None = Field(
        None, description="id of the model to start from; none: the newest model, else the alliance's seed"
    )
    rounds: Annotated[int, Field(ge=1, le=1_000_000)] = Field(5, description="how many models to make")
    clients_required: Annotated[int, Field(ge=1)] = Field(
        1, description="fewest accepted updates that make a round; a round waits for that many clients to start"
    )
    clients_requested: Annotated[int, Field(ge=1)] | None = Field(
        None, description="most clients asked in a round; none: all that are there"
    )
    timeout: Annotated[float, Field(gt=0, le=7 * 24 * 3600)] = Field(
        180.0, description="seconds from a round's plans to its deadline"
    )
    retries: Annotated[int, Field(ge=0, le=1000)] = Field(
        2, description="how often a round that missed its minimum is attempted again before the session fails"
    )
    wait: Annotated[float, Field(gt=0, le=30 * 24 * 3600)] = Field(
        3600.0, description="seconds to wait for enough clients before the session fails"
    )
    weighting: str = Field("examples", description="examples, equal, or capped:N")
    strategy: Strategy = Field(default_factory=Strategy)
    train: dict[str, Plain] = Field(default_factory=dict, description="the trainer's own configuration")
    schedule: dict[str, dict[str, Plain]] = Field(
        default_factory=dict,
        description="keys of train whose value changes: [schedule.learning_rate] 1 = 0.1, 20 = 0.01 from those rounds on",
    )
    clients: ClientSelection = Field(default_factory=ClientSelection)
    package: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="sha256 of the compute package that a client must have (`fedmq check` prints it); none: any"
    )
    tensors: Tensors = Field(default_factory=Tensors)
    update: UpdateBounds = Field(default_factory=UpdateBounds)
    select: ModelSelection = Field(default_factory=ModelSelection)
    stop: EarlyStopping = Field(default_factory=EarlyStopping)
    validation: Literal["with_training", "separate", "none"] = Field(
        "with_training",
        description="with_training: a client validates the model that it receives to train on, and the last one; separate: "
        "all clients validate each model, in tasks of their own; none: only evaluators do",
    )
    validation_timeout: Annotated[float, Field(gt=0, le=7 * 24 * 3600)] = Field(
        120.0, description="seconds that the validations of a model may take, where they have tasks of their own"
    )
    retention: Retention = Field(default_factory=Retention)
    random_seed: int | None = Field(None, description="start of all random draws; none: derived from the session's id")

    @field_validator("weighting")
    @classmethod
    def _known_weighting(cls, value: str) -> str:
        if value in ("examples", "equal") or re.fullmatch(r"capped:[1-9]\d*", value):
            return value
        raise ValueError(f"weighting {value!r} is not known: examples, equal, or capped:N with N of at least 1")

    @field_validator("schedule")
    @classmethod
    def _by_rounds(cls, value: dict[str, dict[str, Plain]]) -> dict[str, dict[str, Plain]]:
        for name, steps in value.items():
            for number in steps:
                if not re.fullmatch(r"[1-9]\d{0,6}", number):
                    raise ValueError(f"schedule.{name} has the key {number!r}: keys are round numbers, from 1")
        return value

    def config(self, number: int) -> dict[str, Plain]:
        """The trainer's configuration in round `number`: of each schedule the newest step that has come."""
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
        """Every plan and task carries the trainer's configuration, and the rest of the policy travels in events."""
        size = len(self.model_dump_json())
        if size > MAX_POLICY:
            raise ValueError(
                f"a policy of {size} bytes is over the limit of {MAX_POLICY}: what is large belongs into the package"
            )
        return self


def weight_of(weighting: str, examples: int) -> int:
    """The integer weight that a client sends for `examples` training examples under a policy's `weighting`."""
    if weighting == "equal":
        return 1
    if weighting.startswith("capped:"):
        return max(1, min(examples, int(weighting.partition(":")[2])))
    return max(1, examples)
