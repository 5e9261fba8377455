"""FedAdagrad, FedAdam and FedYogi (Reddi et al. 2021, algorithm 2):

    m <- beta1 * m + (1 - beta1) * delta
    v <- v + delta^2                                            FedAdagrad
    v <- beta2 * v + (1 - beta2) * delta^2                      FedAdam
    v <- v - (1 - beta2) * delta^2 * sign(v - delta^2)          FedYogi
    x <- x + eta * m / (sqrt(v) + tau)

There is no bias correction, as in the paper. v starts at tau^2 (the paper asks for at least that),
m at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from fedmq import tensors
from fedmq.aggregation.optimizer import Deltas, Model, Parameters, State, fraction, positive, under, zeros
from fedmq.aggregation.verification import Floats
from fedmq.tensors.tensorblob import Weights

SecondMoment: TypeAlias = Callable[[Floats, Floats], Floats]
"""The next v from v and delta^2."""


@dataclass(frozen=True, slots=True)
class AdaptiveParameters(Parameters):
    """The parameters of FedAdam and FedYogi.

    `beta1`, `beta2` and `tau` are those of the paper's experiments. The paper tunes the learning rate by task over powers of
    the root of 10, of which the default is one.
    """

    server_learning_rate: float = positive(0.03)
    """Roughly how far one weight moves in a round (eta)."""
    beta1: float = fraction(0.9)
    """What remains of the last step."""
    beta2: float = fraction(0.99)
    """What remains of the last squared deltas."""
    tau: float = positive(1e-3)
    """The degree of adaptivity; deltas far smaller than this are not scaled up."""


@dataclass(frozen=True, slots=True)
class FedAdagradParameters(Parameters):
    """As `AdaptiveParameters`, without a beta2; beta1 is 0 in the paper's experiments."""

    server_learning_rate: float = positive(0.1)
    """How far one weight moves in the first round at most (eta)."""
    beta1: float = fraction(0.0)
    """What remains of the last step."""
    tau: float = positive(1e-3)
    """The degree of adaptivity."""


def init(model: Model) -> State:
    """Returns m = 0. v is made in the first round, as it starts from the parameter tau."""
    return under("m", zeros(model))


def _adapt(
    model: Model,
    mean_delta: Deltas,
    state: State,
    parameters: Any,
    second_moment: SecondMoment,
) -> tuple[Weights, State]:
    """Performs one round of algorithm 2 with the given rule for v. See the module `optimizer`."""
    beta1, tau = parameters.beta1, parameters.tau
    first, second, step = {}, {}, {}
    for name, delta in mean_delta.items():
        before = state.get(f"v/{name}")
        if before is None:
            before = np.full(delta.shape, tau * tau)
        first[name] = beta1 * state[f"m/{name}"] + (1.0 - beta1) * delta
        second[name] = second_moment(before, delta * delta)
        direction = first[name] / (np.sqrt(second[name]) + tau)
        step[name] = parameters.server_learning_rate * direction
    return tensors.apply(model, step), under("m", first) | under("v", second)


def fedadagrad(
    model: Model, mean_delta: Deltas, state: State, parameters: FedAdagradParameters
) -> tuple[Weights, State]:
    """See `optimizer.Apply`."""
    return _adapt(model, mean_delta, state, parameters, lambda v, square: v + square)


def fedadam(model: Model, mean_delta: Deltas, state: State, parameters: AdaptiveParameters) -> tuple[Weights, State]:
    """See `optimizer.Apply`."""
    beta2 = parameters.beta2
    return _adapt(model, mean_delta, state, parameters, lambda v, square: beta2 * v + (1.0 - beta2) * square)


def fedyogi(model: Model, mean_delta: Deltas, state: State, parameters: AdaptiveParameters) -> tuple[Weights, State]:
    """See `optimizer.Apply`."""
    rest = 1.0 - parameters.beta2
    return _adapt(model, mean_delta, state, parameters, lambda v, square: v - rest * square * np.sign(v - square))
