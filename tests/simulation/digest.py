"""Digests of fault plans: what a change of the code leaves as it was, and what it changes.

    python -m simulation.digest BEFORE.txt              # seeds 0 to 1999, a line for each
    python -m simulation.digest AFTER.txt --against BEFORE.txt

Run it in `tests`. Each line holds two digests. The first one covers what leaves a process: the bodies of its messages,
which deliveries it acknowledges, the documents that it records, the keys and hashes of its blobs, with process and
virtual time, in order. It holds no name of a Python class or field, so it stays the same when code is only moved or
renamed. The second one also covers each event of each core and the effects that answer it, with all fields. It changes
with a name.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fedmq.blobs import memory
from fedmq.brokers.base import Outgoing
from fedmq.runtime.effects import CoreEvent, Effect
from fedmq_schemas.messages import BlobRef
from simulation.alliance import Simulation
from simulation.campaign import CHUNK, PROCESSES
from simulation.plans import draw
from simulation.properties import deadline
from support.world import Process


class OutputRecorder:
    """Collects a line for whatever leaves a process of a simulation. Keeps the hooks that the simulation has set."""

    def __init__(self, run: Simulation) -> None:
        self.lines: list[str] = []
        self._run = run
        world = run.world
        self._on_publish, self._on_write = world.on_publish, world.records.on_write
        world.on_publish, world.on_settle = self._published, self._settled
        world.records.on_write, world.blobs.on_put = self._written, self._stored

    def _add(self, process: Process | None, *words: object) -> None:
        name = process.name if process is not None else "nobody"
        self.lines.append(f"{self._run.world.scheduler.now():.6f} {name} {' '.join(map(str, words))}")

    def _published(self, process: Process, message: Outgoing) -> None:
        body = hashlib.sha256(message.body).hexdigest()
        self._add(process, "publish", message.exchange, message.routing_key, message.message_id, body)
        self._on_publish(process, message)

    def _settled(self, process: Process, how: str, tags: Sequence[int]) -> None:
        self._add(process, how, *tags)

    def _written(self, table: str, key: str, old: dict[str, Any] | None, new: Mapping[str, Any]) -> None:
        document = json.dumps(new, sort_keys=True, default=str)
        self._add(self._run.world.running, "record", table, key, document)
        self._on_write(table, key, old, new)

    def _stored(self, ref: BlobRef) -> None:
        self._add(self._run.world.running, "store", ref.key, ref.size, ref.sha256)


@contextmanager
def _frozen_clock() -> Iterator[None]:
    """The real clock stands still: nothing that is simulated may read it."""
    with patch.object(time, "monotonic", lambda: 0.0), patch.object(time, "perf_counter", lambda: 0.0):
        yield


def _only_store() -> Any:
    """The blob stores of a process are numbered, and URLs hold the number: it must not depend on the seeds before."""
    return patch.object(memory, "_NUMBERS", itertools.count(1))


def _step(event: CoreEvent, answer: Sequence[Effect]) -> str:
    return f"{event!r} -> {list(answer)!r}"


def outputs_and_steps(seed: int, *, is_frozen: bool = True) -> tuple[list[str], list[str]]:
    """What left the processes of this fault plan's alliance, and each step of each core, as lines in their order.
    `is_frozen`: the real clock stands still meanwhile."""
    plan = draw(seed)
    steps: list[str] = []
    with _frozen_clock() if is_frozen else nullcontext(), _only_store(), patch("simulation.alliance.line", _step):
        run = Simulation(plan, trace=steps)
        recorder = OutputRecorder(run)
        try:
            run.run(deadline(plan))
        finally:
            run.close()
    return recorder.lines, steps


def digest(seed: int, *, is_frozen: bool = True) -> str:
    """The line of a seed: its number, both digests, and how many lines each digest covers."""
    outputs, steps = outputs_and_steps(seed, is_frozen=is_frozen)
    digests = " ".join(hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] for lines in (outputs, steps))
    return f"{seed} {digests} {len(outputs)} {len(steps)}"


def write(seeds: Sequence[int], path: Path) -> None:
    """Writes the digest of each seed to a file, computed on `PROCESSES` processes."""
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool, path.open("w") as file:
        for line in pool.imap(digest, seeds, CHUNK):
            file.write(f"{line}\n")


def differences(path: Path, before: Path) -> tuple[list[int], list[int]]:
    """Seeds of both files whose first digests differ, and those whose second digests differ."""
    new, old = (
        {int(seed): digests for seed, *digests in map(str.split, each.read_text().splitlines())}
        for each in (path, before)
    )
    shared = sorted(new.keys() & old.keys())
    outputs = [seed for seed in shared if (new[seed][0], new[seed][2]) != (old[seed][0], old[seed][2])]
    steps = [seed for seed in shared if (new[seed][1], new[seed][3]) != (old[seed][1], old[seed][3])]
    return outputs, steps


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="simulation.digest", description="Writes digests of fault plans to a file.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--plans", type=int, default=2000, help="how many seeds (default 2000)")
    parser.add_argument("--against", type=Path, help="compare with this file; exit 1 if what leaves a process differs")
    parser.add_argument("--show", type=int, metavar="SEED", help="write what leaves the processes of one seed instead")
    given = parser.parse_args(words)
    if given.show is not None:
        given.path.write_text("\n".join(outputs_and_steps(given.show)[0]) + "\n")
        return 0
    write(range(given.first, given.first + given.plans), given.path)
    if given.against is None:
        return 0
    outputs, steps = differences(given.path, given.against)
    for what, seeds in (("outputs", outputs), ("steps", steps)):
        print(f"{what}: {len(seeds)} of {given.plans} seeds differ {seeds[:10]}")
    return 1 if outputs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
