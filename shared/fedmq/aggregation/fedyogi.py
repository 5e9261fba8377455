"""FedYogi (Reddi et al.

2021, algorithm 2): v <- v - (1 - beta2) * delta^2 * sign(v - delta^2). The rest is in `adaptive`.
"""

from __future__ import annotations

import numpy as np

from fedmq.aggregation.adaptive import AdaptiveParameters, adapt, init
from fedmq.aggregation.optimizer import Deltas, Model, State
from fedmq.tensors.tensorblob import Weights

__all__ = ["AdaptiveParameters", "apply", "init"]


def apply(model: Model, mean_delta: Deltas, state: State, parameters: AdaptiveParameters) -> tuple[Weights, State]:
    """See `optimizer.Apply`."""
    rest = 1.0 - parameters.beta2
    return adapt(
        model,
        mean_delta,
        state,
        parameters,
        lambda v, square: v - rest * square * np.sign(v - square),
    )
