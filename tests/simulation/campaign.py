"""Many fault plans over all cores of the machine, and one again."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from simulation.alliance import Simulation
from simulation.bugs import planted
from simulation.plans import draw
from simulation.properties import deadline, violations

PROCESSES = 2
CHUNK = 20


@dataclass(slots=True)
class Result:
    """What a campaign found. `failures`: seed → what was violated."""

    plans: int = 0
    seconds: float = 0.0
    failures: dict[int, list[str]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    rounds: int = 0

    def text(self) -> str:
        return "\n".join(
            f"SEED={seed}: {'; '.join(found)[:1500]}\n  again: SEED={seed} pytest tests/simulation/test_simulation.py"
            for seed, found in sorted(self.failures.items())
        )

    def write(self, path: Path, first: int) -> None:
        document: dict[str, Any] = {
            "seeds": [first, first + self.plans - 1],
            "plans": self.plans,
            "seconds": round(self.seconds, 1),
            "kinds": dict(sorted(self.kinds.items())),
            "sessions": dict(sorted(self.endings.items())),
            "rounds_committed": self.rounds,
            "failures": {str(seed): found for seed, found in sorted(self.failures.items())},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class One:
    """The outcome of one plan."""

    seed: int
    kind: str
    found: list[str]
    endings: tuple[str, ...]
    rounds: int


def simulate(seed: int, bug: str | None = None, trace: list[str] | None = None) -> One:
    """Runs the fault plan of a seed, with a planted bug if one is named. An exception of a run is a violation too."""
    plan = draw(seed)
    with planted(bug):
        run = Simulation(plan, trace=trace)
        try:
            found = violations(run, run.run(deadline(plan)))
        except Exception:
            found = [traceback.format_exc()[-1500:]]
        finally:
            run.close()
    endings = tuple(document["state"] for document in run.ended.values())
    rounds = len({(event.session, event.round) for event in run.told.named("round.committed")})
    return One(seed, plan.kind, found, endings, rounds)


def campaign(
    seeds: Iterable[int],
    bug: str | None = None,
    until_failure: bool = False,
    tell: Callable[[str], object] | None = None,
) -> Result:
    """Runs the plans of all seeds on `PROCESSES` processes. `tell` gets a line of progress every 1,000 plans."""
    result = Result()
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for one in pool.imap_unordered(partial(simulate, bug=bug), seeds, CHUNK):
            result.plans += 1
            result.kinds[one.kind] += 1
            result.endings.update(one.endings)
            result.rounds += one.rounds
            if one.found:
                result.failures[one.seed] = one.found
                if until_failure:
                    break
            if tell is not None and result.plans % 1000 == 0:
                pace = (time.monotonic() - began) / result.plans * 1000
                tell(f"{result.plans} plans, {len(result.failures)} failures, {pace:.0f} ms a plan")
    result.seconds = time.monotonic() - began
    return result


def say(text: str) -> None:
    """To the terminal, whatever the test runner captures."""
    print(text, file=sys.__stderr__, flush=True)
