"""FedAvg and FedAvgM: steps along the mean delta.

FedAvg (McMahan et al., AISTATS 2017, https://arxiv.org/abs/1602.05629):

    x <- x + eta * delta

FedAvgM has momentum on the server (Hsu et al., 2019, https://arxiv.org/abs/1909.06335):

    v <- beta * v + delta
    x <- x + eta * v
"""

from __future__ import annotations

from dataclasses import dataclass

from fedmq import tensors
from fedmq.aggregation.optimizer import Deltas, Model, Parameters, State, fraction, under, zeros
from fedmq.tensors.tensorblob import Weights


@dataclass(frozen=True, slots=True)
class FedAvgParameters(Parameters):
    """`server_learning_rate` 1 gives the weighted mean of the clients' models."""


@dataclass(frozen=True, slots=True)
class FedAvgMParameters(Parameters):
    """Defaults are those of the paper's first experiments."""

    momentum: float = fraction(0.9)
    """What remains of the last step (beta)."""


def no_state(model: Model) -> State:
    """Returns no state."""
    return {}


def fedavg(model: Model, mean_delta: Deltas, state: State, parameters: FedAvgParameters) -> tuple[Weights, State]:
    """See `optimizer.Apply`."""
    rate = parameters.server_learning_rate
    return tensors.apply(model, {name: rate * delta for name, delta in mean_delta.items()}), {}


def no_momentum(model: Model) -> State:
    """Returns v = 0."""
    return under("momentum", zeros(model))


def fedavgm(model: Model, mean_delta: Deltas, state: State, parameters: FedAvgMParameters) -> tuple[Weights, State]:
    """See `optimizer.Apply`."""
    velocity = {name: parameters.momentum * state[f"momentum/{name}"] + delta for name, delta in mean_delta.items()}
    step = {name: parameters.server_learning_rate * v for name, v in velocity.items()}
    return tensors.apply(model, step), under("momentum", velocity)
