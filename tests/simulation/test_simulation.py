"""The alliance keeps its promises under seeded faults. `SEED=n` runs one plan and shows its steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.alliance import Simulation
from simulation.bugs import planted
from simulation.campaign import campaign, say, simulate
from simulation.digest import digest
from simulation.plans import draw
from simulation.properties import deadline, violations

PLANS = int(os.environ.get("PLANS", "2000"))
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
DIGESTS = """
import sys
from simulation.digest import digest
print("\\n".join(digest(seed, is_frozen=sys.argv[1] == "frozen") for seed in range(40)))
"""


@pytest.mark.timeout(24 * 3600)
def test_every_guarantee_holds_under_every_fault_plan() -> None:
    if seed := os.environ.get("SEED"):
        trace: list[str] = [repr(draw(int(seed)))]
        one = simulate(int(seed), trace=trace)
        say("\n".join(trace))
        assert not one.found, "\n".join(one.found)
        return
    result = campaign(range(PLANS), tell=say)
    if "PLANS" in os.environ:
        result.write(RESULTS / f"simulation-{PLANS}.json", 0)
    assert result.plans == PLANS
    assert not result.failures, result.text()


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
        output = subprocess.run(
            [sys.executable, "-c", DIGESTS, clock],
            env=environment, capture_output=True, text=True, check=True, timeout=100,
        )  # fmt: skip
        assert len(output.stdout.split()) == 40 * 5
        digests.add(output.stdout)
    assert len(digests) == 1


def test_a_digest_does_not_depend_on_the_seeds_before_it() -> None:
    first = digest(7)
    digest(8)
    assert digest(7) == first


def test_a_digest_differs_where_what_leaves_a_process_differs() -> None:
    before = [digest(seed).split()[1] for seed in range(10)]
    with planted("ack_before_the_effect"):
        assert [digest(seed).split()[1] for seed in range(10)] != before
