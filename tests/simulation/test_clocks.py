"""Wall clocks that are off or step decide nothing about which reducer is active."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from fedmq.records.documents import LEASE_KEY, LEASE_TABLE
from fedmq_reducer.operations import LEASE_SECONDS
from simulation.alliance import Simulation
from simulation.campaign import simulate
from simulation.plans import Fault, FaultPlan, draw
from simulation.properties import deadline, violations
from simulation.variants import DAY

REDUCERS = ("reducer1", "reducer2")
OFF = {
    "standby a day ahead": {"reducer2": DAY},
    "standby a day behind": {"reducer2": -DAY},
    "both off": {"reducer1": DAY, "reducer2": -DAY},
}


def plan(clocks: dict[str, float], blows: Sequence[Fault] = ()) -> FaultPlan:
    """Returns a plan of two reducers, of which the first is active first, and of rounds that take a minute."""
    drawn = draw(0).undisturbed()
    clients = tuple(replace(client, seconds=15.0, begins=0.0, moods={}) for client in drawn.clients)
    policy = drawn.sessions[0].model_copy(update={"rounds": 4, "clients_required": 1, "timeout": 900.0, "wait": 900.0})
    drawn = replace(drawn, reducers=REDUCERS, clients=clients, sessions=(policy,), offload=False)
    return replace(drawn, clocks=clocks, blows=tuple(blows))


def terms(given: FaultPlan) -> list[tuple[float, str]]:
    """Runs a plan; returns when which reducer became active, and checks that all went well."""
    trace: list[str] = []
    run = Simulation(given, trace)
    try:
        assert violations(run, run.run(deadline(given))) == []
        held = run.world.records.get(LEASE_TABLE, LEASE_KEY)
    finally:
        run.close()
    found = [line.split() for line in trace if "reducer.active" in line]
    active = [(float(at), name.partition("#")[0]) for at, name, *_ in found]
    assert held is not None
    assert held["epoch"] == len(active)
    return active


@pytest.mark.parametrize("clocks", OFF.values(), ids=OFF)
def test_a_living_holder_keeps_the_lease_whatever_the_clocks_show(clocks: dict[str, float]) -> None:
    assert terms(plan(clocks)) == [(0.0, "reducer1")]


@pytest.mark.parametrize("clocks", [{}, *OFF.values()], ids=["right", *OFF])
def test_a_standby_takes_over_from_a_killed_holder_in_time(clocks: dict[str, float]) -> None:
    killed = Fault(20.0, "crash", "reducer1", None)
    [_, (at, name)] = terms(plan(clocks, [killed]))
    assert name == "reducer2"
    assert LEASE_SECONDS - 3.0 <= at - killed.at <= LEASE_SECONDS + 3.5


@pytest.mark.parametrize("step", [-DAY, -5.0, 5.0, DAY])
@pytest.mark.parametrize("whose", REDUCERS)
def test_a_clock_that_ntp_sets_costs_no_lease_and_delays_no_take_over(whose: str, step: float) -> None:
    assert terms(plan({}, [Fault(12.0, "clock", whose, step)])) == [(0.0, "reducer1")]
    killed = Fault(20.0, "crash", "reducer1", None)
    [_, (at, name)] = terms(plan({}, [Fault(19.0, "clock", whose, step), killed]))
    assert name == "reducer2"
    assert at - killed.at <= LEASE_SECONDS + 3.5


@pytest.mark.parametrize("seed", range(8))
def test_every_guarantee_holds_when_no_clock_is_right(seed: int) -> None:
    assert simulate(seed, variant="clocks").found == []
