"""FedAvgM: FedAvg with momentum on the server (Hsu et al., 2019, https://arxiv.org/abs/1909.06335).

v <- beta * v + delta
x <- x + eta * v
"""

from __future__ import annotations

from dataclasses import dataclass

from fedmq import tensors
from fedmq.aggregation.optimizer import Deltas, Model, Parameters, State, fraction, under, zeros
from fedmq.tensors.tensorblob import Weights


@dataclass(frozen=True, slots=True)
class FedAvgMParameters(Parameters):
    """Defaults are those of the paper's first experiments."""

    momentum: float = fraction(0.9)
    """What remains of the last step (beta)."""


def init(model: Model) -> State:
    """Returns v = 0."""
    return under("momentum", zeros(model))


def apply(model: Model, mean_delta: Deltas, state: State, parameters: FedAvgMParameters) -> tuple[Weights, State]:
    """See `optimizer.Apply`."""
    velocity = {name: parameters.momentum * state[f"momentum/{name}"] + delta for name, delta in mean_delta.items()}
    step = {name: parameters.server_learning_rate * v for name, v in velocity.items()}
    return tensors.apply(model, step), under("momentum", velocity)
