"""How updates become the next model: aggregation rules and server optimizers.

Pure arithmetic.

    rule           what an aggregation rule is
    rules          the rules by name
    exact_sum/     the default rule: the exact, order-independent weighted mean
    verification   the checks that an update passes
    arrangement    the place of each tensor in a sum, and the pieces in which an update is read
    optimizer      what a server optimizer is; fedavg, fedavgm, fedadagrad, fedadam, fedyogi
    step           from a rule's result to the next model; replay

There is no clock, no randomness and no I/O but reading a blob that the caller opened. The same arguments give the same
bytes on every machine.
"""

from __future__ import annotations

from fedmq.aggregation import fedadagrad, fedadam, fedavg, fedavgm, fedyogi
from fedmq.aggregation.exact_sum import Accumulator, exponents, initial_exponents
from fedmq.aggregation.optimizer import Parameters, ServerOptimizer, State, suggestion
from fedmq.aggregation.rule import Rule, values
from fedmq.aggregation.rules import RULES, in_plan_order, open_rule, rule_named
from fedmq.aggregation.step import next_model, replay
from fedmq.aggregation.verification import Contribution
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
    """Returns the optimizer of this name. Raises `ConfigError` with a suggestion if there is none."""
    if name not in SERVER_OPTIMIZERS:
        known = list(SERVER_OPTIMIZERS)
        raise ConfigError(f"there is no server optimizer {name!r}; {suggestion(name, known)}")
    return SERVER_OPTIMIZERS[name]
