"""The alliance keeps its promises under seeded faults. `python -m simulation.campaign --seed N` shows a plan's steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.alliance import Simulation
from simulation.bugs import planted
from simulation.campaign import again, simulate
from simulation.digest import digest
from simulation.plans import draw
from simulation.properties import deadline, violations

DIGESTS = """
import sys
from simulation.digest import digest
print("\\n".join(digest(seed, is_frozen=sys.argv[1] == "frozen") for seed in range(40)))
"""


@pytest.mark.parametrize("seed", range(100))
def test_every_guarantee_holds_under_a_fault_plan(seed: int) -> None:
    """`make test-all` and `make test-release` run many more plans."""
    found = simulate(seed).found
    assert not found, "\n".join([*found, again(seed)])


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_an_undisturbed_alliance_comes_to_what_plain_arithmetic_comes_to(seed: int) -> None:
    plan = draw(seed).undisturbed()
    run = Simulation(plan)
    try:
        assert violations(run, run.run(deadline(plan))) == []
        if plan.kind != "wild":
            assert {document["state"] for document in run.ended.values()} == {"finished"}
    finally:
        run.close()


def test_a_plan_is_the_same_run_in_another_process_with_another_hash_seed_and_another_clock() -> None:
    digests = set()
    for hash_seed, clock in (("1", "frozen"), ("2", "real")):
        path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        command = [sys.executable, "-c", DIGESTS, clock]
        output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert len(output.split()) == 40 * 5
        digests.add(output)
    assert len(digests) == 1


def test_a_digest_does_not_depend_on_the_seeds_before_it() -> None:
    first = digest(7)
    digest(8)
    assert digest(7) == first


def test_a_digest_differs_where_what_leaves_a_process_differs() -> None:
    before = digest(7).split()[1]
    with planted("ack_before_the_effect"):
        assert digest(7).split()[1] != before
