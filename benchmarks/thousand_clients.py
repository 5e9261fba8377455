"""Runs a thousand clients, each with an AMQP connection of its own, on one broker, two combiners and one reducer.

    python benchmarks/thousand_clients.py [--clients 1000] [--rounds 10]

The clients are real, five hundred in a process. Their training adds a constant to a 10 kB model. Prints the memory of
broker, combiners and reducer after each round. Exits with 1 if one of them grows after round 3. The broker's memory is
what Erlang uses after a garbage collection, which Erlang itself postpones for minutes in idle processes. `resident`
includes the reserve of Erlang's allocators and does not decide the exit code. Records are in SQLite, because the MongoDB
stand-in takes half a minute to record a thousand clients.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from deployed_round import use_sqlite

from fedmq.brokers.rabbitmq.broker import RabbitmqBroker
from fedmq.scheduler import ThreadScheduler
from fedmq_client.pool.inline import InlinePool
from fedmq_client.role.actor import client_actor
from fedmq_client.role.model_cache import Models
from fedmq_client.role.store import MemoryStore
from fedmq_client.trainer import Client
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Attach
from fedmq_schemas.topology import Topology
from system.deployment import Deployment, private_servers

MOST_GROWTH = 1.1
RESIDENT = "resident"
ATTACH_SECONDS = 300.0
ROUND_SECONDS = 120.0
CONNECT_EVERY = 0.05
PROCESSES = 2
TRAINER = """
import numpy as np

class Trainer:
    def __init__(self, client): ...
    def train(self, weights, task):
        return {name: value + np.float32(0.01) for name, value in weights.items()}, 10, {}
"""


def load(url: str, alliance: str, package: Path, first: int, clients: int) -> None:
    """Runs clients until this process is killed. They attach one after the other."""
    logging.disable()
    scheduler, topology, pool = ThreadScheduler(threads=8), Topology(alliance), InlinePool()
    broker = RabbitmqBroker(url, scheduler)

    def add(number: int) -> None:
        name = f"client-{number:04d}"
        ids = iter(range(10**9))
        actor = client_actor(
            Client(name),
            Attach(),
            package,
            broker.connect(name),
            scheduler,
            topology,
            pool=pool,
            store=MemoryStore(),
            models=Models(None),
            new_id=lambda: f"{name}-{os.getpid()}-{next(ids)}",
        )
        actor.start()
        if number < first + clients - 1:
            scheduler.later(CONNECT_EVERY, lambda: add(number + 1))

    scheduler.post(lambda: add(first))
    scheduler.run()


def memory(deployment: Deployment) -> dict[str, float]:
    """Returns the megabytes in RAM of each process."""
    broker = deployment.servers.rabbitmq
    broker.control("force_gc")
    node = broker.manage("GET", "nodes")[0]["name"]
    total = broker.manage("GET", f"nodes/{node}/memory")["memory"]["total"]
    found = {"rabbitmq": total["erlang"] / 2**20, RESIDENT: total["rss"] / 2**20}
    for role in deployment.nodes.values():
        with urllib.request.urlopen(f"http://127.0.0.1:{role.health_port}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("process_resident_memory_bytes "):
                    found[role.name] = float(line.split()[1]) / 2**20
    return found


def least(readings: list[dict[str, float]], name: str) -> float:
    """Collects Erlang's garbage, which would count as memory in use."""
    return min(reading[name] for reading in readings)


def watch(deployment: Deployment, clients: int, rounds: int) -> bool:
    """Returns whether no process has grown after round 3."""
    began = time.monotonic()
    deployment.await_present(tables.CLIENTS, clients, ATTACH_SECONDS)
    print(f"{clients} clients attached after {time.monotonic() - began:.0f} s", flush=True)
    model = deployment.seed({"0": np.zeros((50, 40), np.float32), "1": np.zeros(500, np.float32)})
    deployment.start_session(
        "crowd",
        seed=model,
        rounds=rounds,
        clients_required=clients,
        random_seed=1,
        timeout=ROUND_SECONDS,
        validation="none",
    )
    readings: list[dict[str, float]] = []
    for number in range(1, rounds + 1):
        deployment.await_round("crowd", number, 2 * ROUND_SECONDS)
        now = memory(deployment)
        if number == 1:
            print(f"{'round':>5} {'seconds':>8} " + " ".join(f"{name:>12}" for name in now) + "   (MB)")
        committed = deployment.records.find(tables.ROUNDS, {"session": "crowd", "round": number})[0]
        assert committed["counts"]["accepted"] == clients, committed["counts"]
        print(
            f"{number:>5} {committed['seconds']:>8.1f} " + " ".join(f"{mb:>12.0f}" for mb in now.values()), flush=True
        )
        readings.append(now)
    assert deployment.await_end("crowd")["state"] == "finished"
    decisive = readings[0].keys() - {RESIDENT}
    grown = {name for name in decisive if least(readings[-5:], name) > MOST_GROWTH * least(readings[2:7], name)}
    print(f"grown by more than a tenth after round 3: {', '.join(sorted(grown)) or 'none'}")
    return not grown


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--load", nargs=4, metavar=("URL", "ALLIANCE", "PACKAGE", "FIRST"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        url, alliance, folder, first = options.load
        load(url, alliance, Path(folder), int(first), options.clients)
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = folder / "package"
        package.mkdir()
        (package / "fedn.yaml").write_text("trainer: trainer.py:Trainer\n")
        (package / "trainer.py").write_text(TRAINER)
        servers = private_servers(folder)
        try:
            servers.start()
            with Deployment(folder / "alliance", servers, "crowd", presence=10.0) as deployment:
                use_sqlite(deployment)
                deployment.start(clients=0)
                each = -(-options.clients // PROCESSES)
                command = [sys.executable, __file__, "--clients", str(each), "--load", servers.rabbitmq.url]
                crowd = [
                    subprocess.Popen([*command, "crowd", str(package), str(1 + number * each)])
                    for number in range(PROCESSES)
                ]
                try:
                    return 0 if watch(deployment, each * PROCESSES, options.rounds) else 1
                finally:
                    for process in crowd:
                        process.kill()
                        process.wait()
        finally:
            servers.remove()


if __name__ == "__main__":
    sys.exit(main())
