"""The alliance keeps its promises under seeded faults. `SEED=n` runs one plan and shows its steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.alliance import Simulation
from simulation.campaign import campaign, say, simulate
from simulation.plans import draw
from simulation.properties import deadline, violations

PLANS = int(os.environ.get("PLANS", "2000"))
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
DIGEST = """
import hashlib
from simulation.campaign import simulate
trace = []
for seed in range(40):
    simulate(seed, trace=trace)
print(hashlib.sha256("\\n".join(trace).encode()).hexdigest())
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


def test_a_plan_is_the_same_run_in_another_process_with_another_hash_seed() -> None:
    digests = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[1])}
        output = subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True, timeout=100
        )
        digests.add(output.stdout.strip())
    assert len(digests) == 1
