"""The exact, order-independent weighted mean and the server optimizers. Pure arithmetic.

    fixedpoint     floats as integers: exponents, lanes, units
    lanes          the integers of a sum
    places         into which lanes an update goes
    arrangement    where tensors lie in a sum, and how an update is read
    stack          updates that are read side by side
    accumulator    verify, fold, merge, mean
    partial        what a partial blob says of itself
    optimizer      what a server optimizer is; fedavg, fedavgm, fedadagrad, fedadam, fedyogi
    step           from a mean to the next model; replay

Rules: no clock, no randomness, no I/O but reading a blob that the caller opened; the same
arguments give the same bytes on every machine.
"""

from __future__ import annotations

from fedmq.aggregation import fedadagrad, fedadam, fedavg, fedavgm, fedyogi
from fedmq.aggregation.accumulator import Accumulator, Contribution
from fedmq.aggregation.fixedpoint import exponents, initial_exponents
from fedmq.aggregation.optimizer import Parameters, ServerOptimizer, State, suggestion
from fedmq.aggregation.stack import Stack, stacks
from fedmq.aggregation.step import next_model, replay
from fedmq.errors import ConfigError

__all__ = [
    "SERVER_OPTIMIZERS",
    "Accumulator",
    "Contribution",
    "Parameters",
    "ServerOptimizer",
    "Stack",
    "State",
    "exponents",
    "initial_exponents",
    "next_model",
    "replay",
    "server_optimizer",
    "stacks",
]

SERVER_OPTIMIZERS = {
    optimizer.name: optimizer
    for optimizer in (
        ServerOptimizer("fedavg", fedavg.FedAvgParameters, fedavg.init, fedavg.apply),
        ServerOptimizer("fedavgm", fedavgm.FedAvgMParameters, fedavgm.init, fedavgm.apply),
        ServerOptimizer(
            "fedadagrad",
            fedadagrad.FedAdagradParameters,
            fedadagrad.init,
            fedadagrad.apply,
        ),
        ServerOptimizer("fedadam", fedadam.AdaptiveParameters, fedadam.init, fedadam.apply),
        ServerOptimizer("fedyogi", fedyogi.AdaptiveParameters, fedyogi.init, fedyogi.apply),
    )
}
"""By the name that a policy uses."""


def server_optimizer(name: str) -> ServerOptimizer:
    """The optimizer of this name; `ConfigError` with a suggestion if there is none."""
    if name not in SERVER_OPTIMIZERS:
        known = list(SERVER_OPTIMIZERS)
        raise ConfigError(f"there is no server optimizer {name!r}; {suggestion(name, known)}")
    return SERVER_OPTIMIZERS[name]
