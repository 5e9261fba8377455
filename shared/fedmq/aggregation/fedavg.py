"""FedAvg: a step along the mean delta (McMahan et al., AISTATS 2017, https://arxiv.org/abs/1602.05629).

x <- x + eta * delta
"""

from __future__ import annotations

from dataclasses import dataclass

from fedmq import tensors
from fedmq.aggregation.optimizer import Deltas, Model, Parameters, State
from fedmq.tensors.tensorblob import Weights


@dataclass(frozen=True, slots=True)
class FedAvgParameters(Parameters):
    """`server_learning_rate` 1 gives the weighted mean of the clients' models."""


def init(model: Model) -> State:
    """Returns no state."""
    return {}


def apply(model: Model, mean_delta: Deltas, state: State, parameters: FedAvgParameters) -> tuple[Weights, State]:
    """See `optimizer.Apply`."""
    rate = parameters.server_learning_rate
    return tensors.apply(model, {name: rate * delta for name, delta in mean_delta.items()}), {}
