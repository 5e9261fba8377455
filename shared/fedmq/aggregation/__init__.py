"""How updates become the next model: aggregation rules and server optimizers. Pure arithmetic.

    rule           what an aggregation rule is; `rules`: the rules by name
    exact_sum/     the default rule: the exact, order-independent weighted mean
    verification   the checks that an update passes
    arrangement    the place of each tensor in a sum, and the pieces in which an update is read
    optimizer      what a server optimizer is; the others are `averaging` and `adaptive`
    step           from a rule's result to the next model; replay

There is no clock, no randomness and no I/O but reading a blob that the caller opened. The same arguments give the same
bytes on every machine.
"""

from __future__ import annotations

from fedmq.aggregation import adaptive, averaging
from fedmq.aggregation.exact_sum import Accumulator, exponents, initial_exponents
from fedmq.aggregation.optimizer import Parameters, ServerOptimizer, State, suggestion
from fedmq.aggregation.rule import Rule, values
from fedmq.aggregation.rules import RULES, in_plan_order, open_rule, rule_named
from fedmq.aggregation.step import next_model, replay
from fedmq.aggregation.verification import Contribution, l2_norm
from fedmq.errors import ConfigError

__all__ = [
    "RULES",
    "SERVER_OPTIMIZERS",
    "Accumulator",
    "Contribution",
    "Parameters",
    "Rule",
    "ServerOptimizer",
    "State",
    "exponents",
    "in_plan_order",
    "initial_exponents",
    "l2_norm",
    "next_model",
    "open_rule",
    "replay",
    "rule_named",
    "server_optimizer",
    "values",
]

SERVER_OPTIMIZERS = {
    optimizer.name: optimizer
    for optimizer in (
        ServerOptimizer("fedavg", averaging.FedAvgParameters, averaging.no_state, averaging.fedavg),
        ServerOptimizer("fedavgm", averaging.FedAvgMParameters, averaging.no_momentum, averaging.fedavgm),
        ServerOptimizer("fedadagrad", adaptive.FedAdagradParameters, adaptive.init, adaptive.fedadagrad),
        ServerOptimizer("fedadam", adaptive.AdaptiveParameters, adaptive.init, adaptive.fedadam),
        ServerOptimizer("fedyogi", adaptive.AdaptiveParameters, adaptive.init, adaptive.fedyogi),
    )
}
"""By the name that a policy uses."""


def server_optimizer(name: str) -> ServerOptimizer:
    """Returns the optimizer of this name. Raises `ConfigError` with a suggestion if there is none."""
    if name not in SERVER_OPTIMIZERS:
        known = list(SERVER_OPTIMIZERS)
        raise ConfigError(f"there is no server optimizer {name!r}; {suggestion(name, known)}")
    return SERVER_OPTIMIZERS[name]
