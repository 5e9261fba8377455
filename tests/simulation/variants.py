"""What is added to every plan of a campaign, drawn from the plan's own number."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from simulation.plans import FAULTS_END, Fault, FaultPlan

DAY = 86_400.0


def clocks_off(plan: FaultPlan) -> FaultPlan:
    """The wall clocks of all processes are off, by up to a day; those of reducers also step, as NTP sets them."""
    source = random.Random(f"clocks {plan.seed}")
    others = [*plan.combiners, *(client.name for client in plan.clients)]
    clocks = {name: source.choice([-DAY, -3600.0, -60.0, 0.0, 60.0, DAY]) for name in (*plan.reducers, *others)}
    steps = tuple(
        Fault(source.uniform(0.0, FAULTS_END), "clock", name, source.choice([-DAY, -30.0, 30.0, DAY]))
        for name in plan.reducers
        for _ in range(source.randint(0, 2))
    )
    return replace(plan, clocks=clocks, blows=(*plan.blows, *steps))


def combiners_added(plan: FaultPlan) -> FaultPlan:
    """One to three combiners are added while the first session runs."""
    source = random.Random(f"combiners {plan.seed}")
    added = {f"added{number}": source.uniform(5.0, 40.0) for number in range(1, source.randint(1, 3) + 1)}
    return replace(plan, combiners=plan.combiners | added)


VARIANTS: dict[str, Callable[[FaultPlan], FaultPlan]] = {"clocks": clocks_off, "combiners": combiners_added}
