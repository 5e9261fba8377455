"""What a server optimizer is: two functions, the parameters they take, and their state.

`init(model)` returns the state before the first round; `apply(model, mean_delta, state, parameters)` returns the next
model and state. Both are given trainable tensors only. State is a dict of named float64 arrays, kept as a blob beside
the model. To give the same bytes on every machine they use nothing but + - * / sqrt and comparisons, elementwise, in
float64, in the written order: IEEE 754 fixes each result, which it does not for pow, exp or dot.

The mean delta takes the place of the negative gradient (Reddi et al., "Adaptive Federated Optimization", ICLR 2021,
https://arxiv.org/abs/2003.00295, algorithm 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, TypeAlias

import numpy as np

from fedmq.aggregation.verification import Floats
from fedmq.errors import ConfigError
from fedmq.tensors.tensorblob import Array, Weights

State: TypeAlias = dict[str, Floats]
Model: TypeAlias = Mapping[str, Array]
Deltas: TypeAlias = Mapping[str, Floats]


def positive(default: float) -> Any:
    """Declares a parameter above 0."""
    return field(default=default, metadata={"bounds": "above 0", "allows": lambda value: value > 0})


def fraction(default: float) -> Any:
    """Declares a parameter in [0, 1)."""
    return field(default=default, metadata={"bounds": "at least 0 and below 1", "allows": lambda value: 0 <= value < 1})


@dataclass(frozen=True, slots=True)
class Parameters:
    """What every server optimizer takes: numbers without a unit, declared as `positive` or `fraction`."""

    server_learning_rate: float = positive(1.0)
    """The length of the step along the mean delta (eta)."""


Init: TypeAlias = Callable[[Model], State]
"""Returns the state before the first round, for these trainable tensors."""

Apply: TypeAlias = Callable[[Model, Deltas, State, Any], tuple[Weights, State]]
"""Takes a round's step: (model, mean_delta, state, parameters) to the next model, in `tensors.apply`'s dtypes, and state.

The mean delta has the model's names and shapes, float64. Arguments are left as they are. Raises `InvalidUpdate` if the
model would not be finite."""


@dataclass(frozen=True, slots=True)
class ServerOptimizer:
    """A named optimizer. `parameters` is the dataclass that its `apply` takes."""

    name: str
    parameters: type[Parameters]
    init: Init
    apply: Apply

    def configure(self, given: Mapping[str, Any]) -> Parameters:
        """Returns parameters from names and numbers; what is not given has its default.

        Raises `ConfigError` for an unknown name, and for a value that is no finite number within its bounds.
        """
        known = {each.name: each.metadata for each in fields(self.parameters)}
        values: dict[str, float] = {}
        for name, value in given.items():
            if name not in known:
                what = f"{self.name} has no parameter {name!r}"
                raise ConfigError(f"{what}; {suggestion(name, sorted(known))}")
            if type(value) not in (int, float) or not math.isfinite(value):
                raise ConfigError(f"{name} of {self.name} is {value!r} and not a number")
            if not known[name]["allows"](value):
                raise ConfigError(f"{name} of {self.name} is {value!r}; it must be {known[name]['bounds']}")
            values[name] = float(value)
        return self.parameters(**values)


def suggestion(name: str, known: list[str]) -> str:
    """Returns `did you mean …?` if a known name is close, else all of them."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


def under(prefix: str, arrays: Mapping[str, Floats]) -> State:
    """Returns the arrays as they are named in a state: `prefix/name`."""
    return {f"{prefix}/{name}": np.asarray(array, np.float64) for name, array in arrays.items()}


def zeros(model: Model) -> dict[str, Floats]:
    """Returns a float64 zero for each element of the model."""
    return {name: np.zeros(array.shape) for name, array in model.items()}
