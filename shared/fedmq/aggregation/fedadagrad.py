"""FedAdagrad (Reddi et al. 2021, algorithm 2): v <- v + delta^2. The rest is in `adaptive`."""

from __future__ import annotations

from dataclasses import dataclass

from fedmq.aggregation.adaptive import adapt, init
from fedmq.aggregation.optimizer import Deltas, Model, Parameters, State, fraction, positive
from fedmq.tensors.tensorblob import Weights

__all__ = ["FedAdagradParameters", "apply", "init"]


@dataclass(frozen=True, slots=True)
class FedAdagradParameters(Parameters):
    """As `AdaptiveParameters`, without a beta2; beta1 is 0 in the paper's experiments."""

    server_learning_rate: float = positive(0.1)
    """How far one weight moves in the first round at most (eta)."""
    beta1: float = fraction(0.0)
    """What remains of the last step."""
    tau: float = positive(1e-3)
    """The degree of adaptivity."""


def apply(model: Model, mean_delta: Deltas, state: State, parameters: FedAdagradParameters) -> tuple[Weights, State]:
    """See `optimizer.Apply`."""
    return adapt(model, mean_delta, state, parameters, lambda v, square: v + square)
