"""Runs many fault plans on two processes, or one plan with its steps.

    python -m simulation.campaign --plans 50000 --result simulation-50000.json
    python -m simulation.campaign --seed 1234
    python -m simulation.campaign --plans 500 --variant clocks

Run it in `tests`, or with that folder on `PYTHONPATH`. The exit code is 1 if a plan violated a guarantee.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shlex
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from simulation.alliance import Simulation
from simulation.bugs import planted
from simulation.plans import draw
from simulation.properties import deadline, violations
from simulation.variants import VARIANTS

PROCESSES = 2
CHUNK = 20


PROGRESS = 500
"""Plans between two lines of progress."""


def again(seed: int) -> str:
    """Returns the command that runs a plan again and shows its steps."""
    return f"again: cd tests && python -m simulation.campaign --seed {seed}"


@dataclass(slots=True)
class Result:
    """What a campaign over the seeds from 0 found. `failures`: seed → what was violated."""

    plans: int = 0
    seconds: float = 0.0
    failures: dict[int, list[str]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    rounds: int = 0

    def text(self) -> str:
        return "\n".join(
            f"SEED={seed}: {'; '.join(found)[:1500]}\n  {again(seed)}" for seed, found in sorted(self.failures.items())
        )

    def progress(self) -> str:
        pace = self.seconds / self.plans * 1000
        return f"{self.plans} plans, {len(self.failures)} failures, {self.seconds:.0f} s, {pace:.0f} ms a plan"

    def document(self) -> dict[str, Any]:
        """Returns the result as it is committed in benchmarks/results, with the command and the commit that it is of."""
        git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        return {
            "command": shlex.join(["python", "-m", "simulation.campaign", *sys.argv[1:]]),
            "commit": subprocess.run(git, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip(),
            "seeds": [0, self.plans - 1],
            "plans": self.plans,
            "seconds": round(self.seconds, 1),
            "kinds": dict(sorted(self.kinds.items())),
            "sessions": dict(sorted(self.endings.items())),
            "rounds_committed": self.rounds,
            "failures": {str(seed): found for seed, found in sorted(self.failures.items())},
        }


@dataclass(frozen=True, slots=True)
class One:
    """The outcome of one plan."""

    seed: int
    kind: str
    found: list[str]
    endings: tuple[str, ...]
    rounds: int


def simulate(seed: int, bug: str | None = None, trace: list[str] | None = None, variant: str = "") -> One:
    """Runs the fault plan of a seed, with a planted bug if one is named. An exception of a run is a violation too."""
    plan = VARIANTS[variant](draw(seed)) if variant else draw(seed)
    if trace is not None:
        trace.append(repr(plan))
    with planted(bug):
        run = Simulation(plan, trace=trace)
        try:
            found = violations(run, run.run(deadline(plan)))
        except Exception:
            found = [traceback.format_exc()[-1500:]]
        finally:
            run.close()
    endings = tuple(document["state"] for document in run.ended.values())
    rounds = len({(event.session, event.round) for event in run.observed.named("round.committed")})
    return One(seed, plan.kind, found, endings, rounds)


def campaign(
    seeds: Iterable[int],
    bug: str | None = None,
    *,
    variant: str = "",
    until_failure: bool = False,
    progress: bool = False,
) -> Result:
    """Runs the plans of all seeds on `PROCESSES` processes; with `progress` it prints a line every so many plans."""
    result = Result()
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for one in pool.imap_unordered(partial(simulate, bug=bug, variant=variant), seeds, CHUNK):
            result.plans += 1
            result.seconds = time.monotonic() - began
            result.kinds[one.kind] += 1
            result.endings.update(one.endings)
            result.rounds += one.rounds
            if one.found:
                result.failures[one.seed] = one.found
                if until_failure:
                    break
            if progress and result.plans % PROGRESS == 0:
                print(result.progress(), flush=True)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=2000, help="run the plans of the seeds from 0 on")
    parser.add_argument("--seed", type=int, help="run this plan alone and show its steps")
    parser.add_argument("--result", type=Path, help="write what was found to this JSON file")
    parser.add_argument("--variant", choices=VARIANTS, default="", help="add this to every plan")
    options = parser.parse_args()
    if options.seed is not None:
        trace: list[str] = []
        found = simulate(options.seed, trace=trace, variant=options.variant).found
        print("\n".join([*trace, *found]))
        return 1 if found else 0
    result = campaign(range(options.plans), variant=options.variant, progress=True)
    print("\n".join(filter(None, [result.progress(), result.text()])))
    if options.result is not None:
        options.result.write_text(json.dumps(result.document(), indent=2) + "\n")
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
