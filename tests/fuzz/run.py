"""Sends fuzzed messages to whole alliances in virtual time, and checks that nobody is harmed.

    python -m fuzz.run --messages 20000 --result fuzz.json
    python -m fuzz.run --seed 1234

Run it in `tests`, or with that folder on `PYTHONPATH`. Each seed is an alliance with a session of three rounds and 2,500
messages of one client's account. For a seed that fails, the fewest messages that make it fail are printed. The exit code is
1 if a seed has failed.
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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from fuzz.alliance import FuzzedAlliance
from fuzz.checks import counts, faults
from fuzz.messages import Sent
from fuzz.smallest import smallest

EACH = 2500
"""Messages of a seed."""
PROCESSES = 2
SHRINK_SECONDS = 120.0
MOST_SHOWN = 10
PROGRESS = 20
"""Seeds between two lines of progress."""

Timed = tuple[float, Sent]


@dataclass(slots=True)
class Outcome:
    """What one seed has shown. `sent`: its messages, if it failed."""

    seed: int
    faults: list[str]
    counts: Counter[str]
    sent: list[Timed]


def again(seed: int) -> str:
    """Returns the command that runs a seed again."""
    return f"again: cd tests && python -m fuzz.run --seed {seed}"


@lru_cache(8)
def undisturbed(seed: int) -> list[tuple[int, str]]:
    """Returns the models of the seed's session without any of the account's messages."""
    run = FuzzedAlliance(seed, 0)
    try:
        assert run.run(), "the undisturbed session has not ended"
        return run.models()
    finally:
        run.close()


def fuzz(seed: int, messages: int | Sequence[Timed] = EACH) -> Outcome:
    """Runs the alliance of a seed with messages, and once without. An exception of the run is a fault too."""
    models = undisturbed(seed)
    run = FuzzedAlliance(seed, messages)
    try:
        found = faults(run, run.run(), models)
        return Outcome(seed, found, counts(run), run.sent if found else [])
    except Exception:
        return Outcome(seed, [traceback.format_exc()[-3000:]], Counter(), run.sent)
    finally:
        run.close()


def shrink(outcome: Outcome) -> list[str]:
    """Returns the fewest messages found within `SHRINK_SECONDS` with which the seed fails in the same way, as text."""
    deadline = time.monotonic() + SHRINK_SECONDS

    def fails(messages: Sequence[Timed]) -> bool:
        found = fuzz(outcome.seed, messages).faults if time.monotonic() < deadline else []
        return bool(found) and found[0][:30] == outcome.faults[0][:30]

    return [f"{at:.2f} s: {message}" for at, message in smallest(outcome.sent, fails)[:MOST_SHOWN]]


@dataclass(slots=True)
class Campaign:
    """What the seeds from 0 on have shown."""

    seeds: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[int, Outcome] = field(default_factory=dict)

    def progress(self) -> str:
        numbers = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.counts.items())
        pace = self.counts["sent"] / max(self.seconds, 1e-9)
        speed = f"{self.seconds:.0f} s, {pace:,.0f} messages a second"
        return f"{self.seeds} sessions: {numbers}; {len(self.failures)} failures; {speed}"

    def document(self) -> dict[str, Any]:
        """Returns the result as it is committed in benchmarks/results, with the command and the commit that it is of."""
        git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        return {
            "command": shlex.join(["python", "-m", "fuzz.run", *sys.argv[1:]]),
            "commit": subprocess.run(git, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip(),
            "sessions": self.seeds,
            "seconds": round(self.seconds, 1),
            "messages": dict(self.counts),
            "failures": {str(seed): outcome.faults for seed, outcome in sorted(self.failures.items())},
        }


def campaign(seeds: Iterable[int], messages: int = EACH, *, processes: int = PROCESSES) -> Campaign:
    """Runs all seeds, and prints a line now and then."""
    result, began = Campaign(), time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for outcome in pool.imap_unordered(partial(fuzz, messages=messages), seeds):
            result.seeds += 1
            result.seconds = time.monotonic() - began
            result.counts.update(outcome.counts)
            if outcome.faults:
                result.failures[outcome.seed] = outcome
                print(f"SEED={outcome.seed} fails: {outcome.faults[0][:300]}", flush=True)
            if result.seeds % PROGRESS == 0:
                print(result.progress(), flush=True)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000, help="how many in all, rounded up to whole sessions")
    parser.add_argument("--seed", type=int, help="run this seed alone")
    parser.add_argument("--result", type=Path, help="write what was found to this JSON file")
    options = parser.parse_args()
    if options.seed is not None:
        outcome = fuzz(options.seed)
        result = Campaign(1, 0.0, outcome.counts, {options.seed: outcome} if outcome.faults else {})
    else:
        result = campaign(range(-(-options.messages // EACH)))
    print(result.progress())
    if options.result is not None:
        options.result.write_text(json.dumps(result.document(), indent=2) + "\n")
    for seed, outcome in sorted(result.failures.items())[:3]:
        print("\n".join([f"SEED={seed}:", *(fault[:1500] for fault in outcome.faults), again(seed)]), flush=True)
        print("\n".join(["the smallest messages with which it fails:", *shrink(outcome)]), flush=True)
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
