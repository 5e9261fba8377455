"""A combiner that is added to a running session takes its share of the clients, and changes no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef
from fedmq_schemas.policy import Policy
from simulation.alliance import Simulation
from simulation.campaign import simulate
from simulation.plans import FaultPlan, SimulatedClient, draw
from simulation.properties import deadline, violations

ROUNDS = 4


def plan(combiners: Mapping[str, float]) -> FaultPlan:
    """Returns an undisturbed plan of five clients and four rounds of fifteen seconds. `combiners`: when each one starts."""
    drawn = draw(0).undisturbed()
    clients = tuple(SimulatedClient(f"client{number}", number, 15.0) for number in range(1, 6))
    policy = Policy(rounds=ROUNDS, clients_required=5, timeout=900.0, wait=900.0, validation="separate", random_seed=1)
    return replace(drawn, reducers=("reducer1",), combiners=dict(combiners), clients=clients, sessions=(policy,))


def finished(given: FaultPlan) -> tuple[list[dict[str, Any]], list[bytes], dict[str, int]]:
    """Runs a plan; returns its attempts, the bytes of its models, and the number of clients at each combiner."""
    run = Simulation(given)
    try:
        assert violations(run, run.run(deadline(given))) == []
        store = run.world.records
        attempts = [dict(each) for each in store.find(tables.ATTEMPTS, order="round")]
        rounds = store.find(tables.ROUNDS, order="round")
        models = [run.world.blobs.ever(BlobRef.model_validate(each["model"]).key) for each in rounds]
        return attempts, models, {each["combiner"]: each["clients"] for each in store.find(tables.COMBINERS)}
    finally:
        run.close()


def test_a_second_combiner_takes_half_of_the_clients_and_the_models_stay_the_same_bytes() -> None:
    _, alone, _ = finished(plan({"combiner1": 0.0}))
    attempts, models, clients = finished(plan({"combiner1": 0.0, "combiner2": 25.0}))
    sizes = [[len(part["clients"]) for part in attempt["plans"]] for attempt in attempts]
    assert sizes == [[5], [5], [3, 2], [3, 2]]
    assert clients == {"combiner1": 3, "combiner2": 2}
    assert len(models) == ROUNDS
    assert models == alone


@pytest.mark.parametrize("seed", range(12))
def test_every_guarantee_holds_while_combiners_are_added(seed: int) -> None:
    assert simulate(seed, variant="combiners").found == []
