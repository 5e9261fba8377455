"""Blow after blow at random during one session; then its final model beside that of a session nobody touched.

    python tests/system/chaos.py          # BLOWS=30 SEED=1 unless the environment says otherwise

Prints each blow, and at the end both hashes. Exit code 1 if they differ or the ledger is not whole.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from fedmq.errors import Transient
from fedmq_schemas import records as tables
from system.deployment import Deployment, private_servers

OUTAGE = 10.0
"""Seconds that a store is away."""
PAUSE = (0.2, 2.0)
"""Seconds between two blows, at random between these."""
ROUNDS = 100_000
BREATH = 3
"""After so many blows a round must be committed before the next one."""
END_SECONDS = 240.0

Say = Callable[[str], None]


def policy(seed: str, rounds: int) -> dict[str, Any]:
    """Every update is needed, and deadlines leave slack for any outage."""
    return {
        "seed": seed,
        "rounds": rounds,
        "clients_required": 6,
        "timeout": 120,
        "retries": 1000,
        "wait": 600,
        "random_seed": 7,
        "validation_timeout": 30,
        "train": {"seconds": 0.2},
    }


class Chaos:
    """`strike` deals one blow, drawn from a seeded generator, and says which."""

    def __init__(self, deployment: Deployment, seed: int) -> None:
        self._deployment = deployment
        self._random = random.Random(seed)

    def strike(self) -> str:
        draw = self._random.random()
        if draw < 0.9:
            role = self._random.choice(["reducer", "combiner", "client"])
            return self._kill(role)
        return self._random.choice([self._rabbitmq, self._blobs, self._records])()

    def pause(self) -> float:
        return self._random.uniform(*PAUSE)

    def _kill(self, role: str) -> str:
        nodes = [node for node in self._deployment.nodes.values() if node.role == role]
        node = self._random.choice(nodes)
        node.kill()
        node.start()
        return f"SIGKILL {node.name}"

    def _rabbitmq(self) -> str:
        began = time.monotonic()
        self._deployment.servers.rabbitmq.stop()
        self._deployment.servers.rabbitmq.start()
        return f"RabbitMQ stopped and started, {time.monotonic() - began:.0f} s"

    def _blobs(self) -> str:
        self._deployment.servers.s3.kill()
        time.sleep(OUTAGE)
        self._deployment.servers.s3.start()
        return f"S3 away for {OUTAGE:.0f} s"

    def _records(self) -> str:
        self._deployment.servers.mongo.kill()
        time.sleep(OUTAGE)
        self._deployment.servers.mongo.start()
        return f"record store away for {OUTAGE:.0f} s"


def run_chaos(deployment: Deployment, *, blows: int, seed: int, say: Say, name: str = "chaos") -> tuple[str, str]:
    """Strikes `blows` times during one session, stops it after its round, and runs as many rounds undisturbed. Returns
    both final models' sha256; asserts that the ledger is whole."""
    model = deployment.seed()
    chaos, session = Chaos(deployment, seed), f"{name}-{seed}"
    deployment.start_session(session, **policy(model, ROUNDS))
    deployment.await_round(session, 1)
    began = time.monotonic()
    for number in range(1, blows + 1):
        time.sleep(chaos.pause())
        blow = chaos.strike()
        say(f"{time.monotonic() - began:7.1f} s  round {_round(deployment, session):>4}  blow {number:>3}: {blow}")
        if number % BREATH == 0:
            done = deployment.until(lambda: deployment.round_of(session), "answer of the records", END_SECONDS)
            deployment.await_round(session, done + 1, END_SECONDS)
    rounds = deployment.round_of(session)
    say(f"{time.monotonic() - began:7.1f} s  round {rounds:>4}  no more blows")
    deployment.stop_session(session)
    ended = deployment.await_end(session, END_SECONDS)
    assert ended["state"] == "stopped", ended["reason"]
    rounds = deployment.round_of(session)
    deployment.check_ledgers(session, rounds=rounds)
    deployment.check_each_round_once(session)

    calm = f"{session}-calm"
    deployment.heal().start_session(calm, **policy(model, rounds))
    assert deployment.await_end(calm, END_SECONDS + 2 * rounds)["state"] == "finished"
    faulty, undisturbed = deployment.final_sha256(session), deployment.final_sha256(calm)
    say(f"{rounds} rounds, {blows} blows  {faulty}")
    say(f"{rounds} rounds, undisturbed  {undisturbed}")
    return faulty, undisturbed


def _round(deployment: Deployment, session: str) -> str:
    try:
        return str(deployment.records.count(tables.ROUNDS, {"session": session}))
    except Transient:
        return "?"


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    blows, seed = int(os.environ.get("BLOWS", "30")), int(os.environ.get("SEED", "1"))
    folder = Path(tempfile.mkdtemp(prefix="fedmq-chaos-"))
    servers = private_servers(folder)

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        servers.start()
        with Deployment(folder / "alliance", servers, "chaos") as deployment:
            deployment.start(reducers=2)
            faulty, undisturbed = run_chaos(deployment, blows=blows, seed=seed, say=say)
    except BaseException:
        say(f"logs are in {folder}")
        raise
    finally:
        servers.remove()
    same = faulty == undisturbed
    say("the same model, to the last bit" if same else f"THE MODELS DIFFER; logs are in {folder}")
    if same:
        shutil.rmtree(folder, ignore_errors=True)  # a log that a dying server still writes fails no run
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
