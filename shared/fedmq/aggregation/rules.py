"""The aggregation rules by name. A new rule is added here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedmq.aggregation.exact_sum.accumulator import Accumulator
from fedmq.aggregation.optimizer import suggestion
from fedmq.aggregation.rule import Rule
from fedmq.errors import ConfigError, ProtocolError
from fedmq.tensors import Spec

RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (Accumulator,)}
"""By the name that a policy's `strategy.rule` uses."""


def rule_named(name: str) -> type[Rule]:
    """Returns the rule of this name. Raises `ConfigError` with a suggestion if there is none."""
    if name not in RULES:
        raise ConfigError(f"there is no rule {name!r}; {suggestion(name, list(RULES))}")
    return RULES[name]


def open_rule(name: str, spec: Spec, exponents: Sequence[int]) -> Rule:
    """Opens a rule for a round. `exponents`: those of a plan, in the order of `scaled`.

    Raises `ConfigError` for an unknown rule, and `ProtocolError` if the plan is not for a model of this spec.
    """
    names = scaled(spec)
    if len(exponents) != len(names):
        raise ProtocolError(
            f"the plan has {len(exponents)} exponents, and its model has {len(names)} tensors that need one"
        )
    return rule_named(name)(spec, dict(zip(names, exponents, strict=True)))


def in_plan_order(exponents: Mapping[str, int]) -> tuple[int, ...]:
    """Returns exponents by tensor as a plan lists them."""
    return tuple(exponents[name] for name in sorted(exponents))


def scaled(spec: Spec) -> list[str]:
    """Returns the tensors that have an exponent, all but counters and opaque ones, in the order of a plan."""
    return sorted(name for name, tensor in spec.items() if not tensor.is_whole)
