"""FedAdagrad (Reddi et al. 2021, algorithm 2): v <- v + delta^2. The rest is in `adaptive`."""

from __future__ import annotations

from dataclasses import dataclass

from fedmq.aggregation.adaptive import adapt, init
from fedmq.aggregation.optimizer import Deltas, Model, Parameters, State
from fedmq.tensors.tensorblob import Weights

__all__ = ["FedAdagradParameters", "apply", "init"]


@dataclass(frozen=True, slots=True)
class FedAdagradParameters(Parameters):
    """As `AdaptiveParameters`, without a beta2; beta1 is 0 in the paper's experiments."""

    server_learning_rate: float = 0.1
    """Above 0: how far one weight moves in the first round at most (eta)."""
    beta1: float = 0.0
    """In [0, 1): what remains of the last step."""
    tau: float = 1e-3
    """Above 0: the degree of adaptivity."""


def apply(model: Model, mean_delta: Deltas, state: State, parameters: FedAdagradParameters) -> tuple[Weights, State]:
    """See `optimizer.Apply`."""
    return adapt(model, mean_delta, state, parameters, lambda v, square: v + square)
