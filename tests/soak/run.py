"""Runs an alliance of processes for hours: sessions, churn, killed servers, an upgrade, new passwords, a restore drill.

    python tests/soak/run.py [--hours 1] [--summary FILE] [--before COMMAND]

It begins with the release before this one, installed with pip in an environment of its own, and upgrades to this one.
Prints what happens. Exits with 1 unless everything was as promised:

- every session finishes, and every model of it is the weighted mean of its clients' uploads, to the last bit;
- at each session's end every queue is empty;
- a backup made during a session is restored into a second alliance without a fault;
- the memory of each process that has run for half of the time stays flat: its maximum in the last quarter of its life is at
  most 1.1 times that of the second quarter.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from fedmq.errors import Transient
from fedmq_schemas import records as tables
from soak import incidents
from soak.alliance import OperatedAlliance
from soak.memory import FEWEST, Memory, has_grown
from support import releases
from system.deployment import private_servers

UPGRADE, ROTATION, DRILL, STEADY_FROM = 0.08, 0.17, 0.25, 0.3
"""When these happen, in parts of the time."""
END_SECONDS = 300.0
QUEUE_SECONDS = 120.0
"""RabbitMQ measures its queues every five seconds."""
PRESENCE = 4.3
"""Seconds between signs of life: another period than that of the measurements, which would meet one each time."""


def policy(number: int, rounds: int) -> dict[str, Any]:
    """A round takes about a second and a half. Rounds go on with two clients away."""
    return {
        "seed": "seed-system",
        "rounds": rounds,
        "clients_required": 4,
        "timeout": 60,
        "retries": 1000,
        "wait": 600,
        "random_seed": number,
        "validation_timeout": 20,
        "train": {"seconds": 0.8},
    }


@dataclass
class Recurring:
    """What happens every so many seconds, but with `after_drill` not while the restore drill copies.

    `last`: when it happened, in seconds from the beginning.
    """

    every: float
    happen: Callable[[], str]
    after_drill: bool = False
    last: float = 0.0


@dataclass
class Soak:
    """One run. `problems` lists what was not as promised."""

    alliance: OperatedAlliance
    seconds: float
    began: float = field(default_factory=time.monotonic)
    problems: list[str] = field(default_factory=list)
    sessions: int = 0
    rounds: int = 0
    incidents: int = 0
    memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        self.churn = incidents.Churn(self.alliance, seed=1)
        self._pending, self._recurring = self._once(), self._again()
        self._over = threading.Event()
        self._drill: Future[None] | None = None
        self._threads = ThreadPoolExecutor(1)

    def _once(self) -> list[tuple[float, Callable[[], str]]]:
        """Returns what happens once, with its time in seconds from the beginning."""
        return [
            (UPGRADE * self.seconds, lambda: incidents.upgrade(self.alliance, self.say)),
            (ROTATION * self.seconds, lambda: incidents.rotate_passwords(self.alliance, self.say)),
            (DRILL * self.seconds, self._begin_drill),
            (STEADY_FROM * self.seconds, self._spare),
        ]

    def _again(self) -> list[Recurring]:
        hours = self.seconds / 3600
        return [
            Recurring(max(25.0, 90.0 * hours), self.churn.next),
            Recurring(max(60.0, 300.0 * hours), incidents.ServerKills(self.alliance).next, after_drill=True),
        ]

    def _due(self) -> Callable[[], str] | None:
        """Returns what is to happen now, one thing at a time."""
        if self._pending and self._pending[0][0] <= self.passed:
            return self._pending.pop(0)[1]
        is_drill = self._drill is not None and not self._drill.done()
        for each in self._recurring:
            if each.after_drill and is_drill:
                continue
            if each.last + each.every <= self.passed < self.seconds:
                each.last = self.passed
                return each.happen
        return None

    def _begin_drill(self) -> str:
        backup = self.alliance.folder.parent / "backup"
        drill = partial(incidents.drill, self.alliance, backup, self.say)
        self._drill = self._threads.submit(self._attempt, "the restore drill", drill)
        return "restore drill: a backup begins"

    def _spare(self) -> str:
        self.churn.spares = incidents.STEADY
        return f"from now on churn spares {', '.join(incidents.STEADY)}"

    def say(self, line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {self.passed:7.1f} s  {line}", flush=True)

    @property
    def passed(self) -> float:
        return time.monotonic() - self.began

    def run(self) -> None:
        """Runs sessions one after the other until the time is over and everything has happened."""
        self.say("two reducers, two combiners and six clients of the release before this one")
        sampler = threading.Thread(target=self._sample, daemon=True)
        sampler.start()
        rounds = max(8, min(40, int(self.seconds / 40)))
        while self.passed < self.seconds or self._pending:
            self.sessions += 1
            self.session(f"soak-{self.sessions}", policy(self.sessions, rounds), rounds)
        assert self._drill is not None
        self._drill.result()
        self._over.set()
        sampler.join()

    def session(self, name: str, chosen: dict[str, Any], rounds: int) -> None:
        began = time.monotonic()
        self.alliance.start_session(name, **chosen)
        while not self._has_ended(name):
            if time.monotonic() - began > END_SECONDS + 10 * rounds:
                raise TimeoutError(f"{name} has not ended; logs are in {self.alliance.folder}")
            if (happen := self._due()) is not None:
                self.incidents += 1
                self._attempt("an incident", happen)
            time.sleep(0.5)
        self._attempt(f"the end of {name}", lambda: self._check(name, rounds, time.monotonic() - began))

    def _has_ended(self, session: str) -> bool:
        try:
            document = self.alliance.records.get(tables.SESSIONS, session)
        except Transient:
            return False
        return document is not None and document["state"] in tables.ENDED

    def _check(self, session: str, rounds: int, seconds: float) -> str:
        ended = self.alliance.await_end(session)
        assert ended["state"] == "finished", f"{session} {ended['state']}: {ended['reason']}"
        self.alliance.check_ledgers(session, rounds=rounds)
        self.alliance.check_each_round_once(session)
        self.rounds += rounds
        self._await_empty_queues()
        return f"{session}: {rounds} rounds in {seconds:.0f} s, every model verified, queues empty"

    def _await_empty_queues(self) -> None:
        deadline = time.monotonic() + QUEUE_SECONDS
        while depths := self.alliance.depths():
            assert time.monotonic() < deadline, f"queues hold messages: {depths}"
            time.sleep(1.0)

    def _attempt(self, what: str, work: Callable[[], str]) -> None:
        """Says what was done, or what failed, which is a problem."""
        try:
            self.say(work())
        except Exception as error:  # every kind of failure is reported, and the run continues
            problem = f"{what}: {type(error).__name__}: {error}"
            self.problems.append(problem)
            self.say(f"PROBLEM {problem}")

    def _sample(self) -> None:
        """Samples the memory of all processes until the run is over."""
        while not self._over.wait(min(30.0, self.seconds / 120)):
            processes = [(each.process, each.name) for each in list(self.alliance.nodes.values())]
            self.memory.sample({process.pid: name for process, name in processes if process is not None})

    def judge_memory(self) -> list[dict[str, Any]]:
        """Returns what each process took that has lived for half of the time."""
        found: list[dict[str, Any]] = []
        most = max(map(len, self.memory.series.values()), default=0)
        for (name, _), samples in sorted(self.memory.series.items()):
            if len(samples) >= max(FEWEST, most // 2):
                quarter = len(samples) // 4
                second, last = max(samples[quarter : 2 * quarter]) / 2**20, max(samples[-quarter:]) / 2**20
                most_mb = {"second_quarter_mb": round(second), "last_quarter_mb": round(last)}
                found.append({"process": name, "samples": len(samples)} | most_mb)
                self.say(f"memory of {name}: at most {second:.0f} MB in the second quarter, {last:.0f} MB in the last")
                if has_grown(samples):
                    self.problems.append(f"the memory of {name} grew from {second:.0f} to {last:.0f} MB")
        if not found:
            self.problems.append("no process has lived long enough to judge its memory")
        return found

    def summary(self) -> dict[str, Any]:
        return {
            "hours": round(self.seconds / 3600, 3),
            "from": releases.BEFORE,
            "sessions": self.sessions,
            "rounds_verified": self.rounds,
            "incidents": self.incidents,
            "memory": self.judge_memory(),
            "problems": self.problems,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--summary", type=Path, help="a file for the outcome, as JSON")
    parser.add_argument(
        "--before", type=Path, help="the command fedmq of the release before this one, if it is installed"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="fedmq-soak-"))
    if (old := options.before) is None:
        print(f"installing the release before this one in {folder}", flush=True)
        old = releases.install(releases.unpack(folder), folder / "venv")
    servers = private_servers(folder)
    try:
        servers.start()
        with OperatedAlliance(folder / "alliance", servers, "soak", presence=PRESENCE, old=old) as alliance:
            for role, processes in (("reducer", 2), ("combiner", 2), ("client", 6)):
                for number in range(1, processes + 1):
                    alliance.join(role, number)
            alliance.seed()
            soak = Soak(alliance, 3600 * options.hours)
            soak.run()
            outcome = soak.summary()
    finally:
        servers.remove()
        print(f"logs are in {folder}", flush=True)
    if options.summary is not None:
        options.summary.write_text(json.dumps(outcome, indent=1) + "\n")
    print(json.dumps(outcome, indent=1))
    if outcome["problems"]:
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
