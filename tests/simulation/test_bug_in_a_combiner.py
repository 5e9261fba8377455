"""A bug that a combiner meets once costs time, and no guarantee."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from fedmq_combiner import answers, course
from simulation.alliance import Simulation
from simulation.plans import draw
from simulation.properties import deadline, violations

MODULES = {"answers": answers, "course": course}


class PlantedBug(Exception):
    pass


@pytest.mark.parametrize("seed", [3, 4, 6])
@pytest.mark.parametrize("where", ["answers.ledger_entry", "course.ledger_of", "course.partial_of"])
def test_a_bug_in_a_routine_is_reported_and_costs_no_guarantee(where: str, seed: int) -> None:
    """The rounds of these seeds may last 900 s, which is enough to start over."""
    module, name = where.split(".")
    right, calls = getattr(MODULES[module], name), 0

    def bug(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise PlantedBug
        return right(*given)

    run = Simulation(draw(seed).undisturbed())
    try:
        with patch.object(MODULES[module], name, bug):
            all_ended = run.run(deadline(run.plan))
        [error] = run.observed.errors
        assert "PlantedBug" in error
        run.observed.errors.clear()
        assert violations(run, all_ended) == []
        assert {document["state"] for document in run.ended.values()} == {"finished"}
    finally:
        run.close()
