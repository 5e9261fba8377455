"""What a server optimizer is: two functions, the parameters they take, and their state.

`init(model)` gives the state before the first round; `apply(model, mean_delta, state, parameters)`
the next model and state. Both see trainable tensors only. State is a dict of named float64 arrays,
kept as a blob beside the model. To give the same bytes on every machine they use nothing but
+ - * / sqrt and comparisons, elementwise, in float64, in the written order: IEEE 754 fixes each
result, which it does not for pow, exp or dot.

The mean delta takes the place of the negative gradient (Reddi et al., "Adaptive Federated
Optimization", ICLR 2021, https://arxiv.org/abs/2003.00295, algorithm 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Protocol, TypeAlias

import numpy as np

from fedmq.aggregation.fixedpoint import Floats
from fedmq.errors import ConfigError
from fedmq.tensors.tensorblob import Array, Weights

State: TypeAlias = dict[str, Floats]
Model: TypeAlias = Mapping[str, Array]
Deltas: TypeAlias = Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Parameters:
    """What every server optimizer takes. All parameters are numbers without a unit.

    Made with `ServerOptimizer.configure`, which checks them.
    """

    server_learning_rate: float = 1.0
    """Above 0: how far to go along the mean delta (eta)."""


class Init(Protocol):
    """The state before the first round, for these trainable tensors."""

    def __call__(self, model: Model) -> State: ...


class Apply(Protocol):
    """The next trainable tensors, in the dtypes of `tensors.apply`, and the next state.

    `mean_delta` has the model's names and shapes, float64. Arguments are left as they are. Raises
    `InvalidUpdate` if the model would not be finite."""

    def __call__(self, model: Model, mean_delta: Deltas, state: State, parameters: Any) -> tuple[Weights, State]: ...


@dataclass(frozen=True, slots=True)
class ServerOptimizer:
    """A named optimizer; `parameters` is the dataclass that its `apply` takes."""

    name: str
    parameters: type[Parameters]
    init: Init
    apply: Apply

    def configure(self, given: Mapping[str, Any]) -> Parameters:
        """Parameters from names and numbers; what is not given has its default.

        Raises `ConfigError` for an unknown name, with a suggestion, and for a value that is not a
        finite number within its bounds.
        """
        known = {field.name for field in fields(self.parameters)}
        values: dict[str, float] = {}
        for name, value in given.items():
            if name not in known:
                what = f"{self.name} has no parameter {name!r}"
                raise ConfigError(f"{what}; {suggestion(name, sorted(known))}")
            if type(value) not in (int, float) or not math.isfinite(value):
                raise ConfigError(f"{name} of {self.name} is {value!r} and not a number")
            if name in _POSITIVE and value <= 0:
                raise ConfigError(f"{name} of {self.name} is {value!r}; it must be above 0")
            if name not in _POSITIVE and not 0 <= value < 1:
                raise ConfigError(f"{name} of {self.name} is {value!r}; it must be at least 0 and below 1")
            values[name] = float(value)
        return self.parameters(**values)


_POSITIVE = ("server_learning_rate", "tau")


def suggestion(name: str, known: list[str]) -> str:
    """`did you mean …?` if a known name is close, else all of them."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


def under(prefix: str, arrays: Mapping[str, Floats]) -> State:
    """The arrays as they are named in a state: `prefix/name`."""
    return {f"{prefix}/{name}": np.asarray(array, np.float64) for name, array in arrays.items()}


def zeros(model: Model) -> dict[str, Floats]:
    """A float64 zero for each element of the model."""
    return {name: np.zeros(array.shape) for name, array in model.items()}
