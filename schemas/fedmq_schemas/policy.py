"""The policy: everything that a session decides, in one frozen model.

It is the start message, the body of `POST /start`, the control form's fields and the session file. Unknown keys are
errors that suggest the nearest known key.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, JsonValue, field_validator, model_validator

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
            for key in data:
                if key not in cls.model_fields:
                    near = get_close_matches(str(key), cls.model_fields, n=1)
                    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(cls.model_fields)}"
                    raise ValueError(f"unknown key {key!r}: {hint}")
        return data


class Strategy(Section):
    """How the mean of the updates becomes the next model."""

    name: str = Field("fedavg", description="fedavg, fedavgm, fedadagrad, fedadam or fedyogi")
    parameters: dict[str, float] = Field(
        default_factory=dict, description="the server optimizer's own, e.g. server_learning_rate"
    )


class Retention(Section):
    """What stays in the blob store after a round is committed."""

    keep_updates: int | Literal["all"] = Field(
        "all", description="all, or for how many committed rounds the clients' updates are kept (0: none)"
    )

    @field_validator("keep_updates")
    @classmethod
    def _not_negative(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 0:
            raise ValueError("keep_updates must be 'all' or a number of rounds, 0 or more")
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
    fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="part of the clients that is drawn for each round, rounded up"
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
    validate_models: bool = Field(True, description="clients validate each model that they receive")
    validation_timeout: Annotated[float, Field(gt=0)] = Field(
        120.0, description="seconds that the last model's validations may take"
    )
    retention: Retention = Field(default_factory=Retention)
    random_seed: int | None = Field(None, description="start of all random draws; none: derived from the session's id")

    @field_validator("weighting")
    @classmethod
    def _known_weighting(cls, value: str) -> str:
        if value in ("examples", "equal") or re.fullmatch(r"capped:[1-9]\d*", value):
            return value
        raise ValueError(f"weighting {value!r} is not known: examples, equal, or capped:N with N of at least 1")

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
