"""Measures a round in which every role is a process: RabbitMQ, an S3 and a MongoDB server, two combiners, ten clients.

    python benchmarks/deployed_round.py [--rounds 40] [--clients 10] [--sqlite]

A 10 kB model, and training that adds a constant. Prints the milliseconds from one commit to the next without the first
five, and in the same run the milliseconds of the servers alone for one message, blob and document. The MongoDB server is
a stand-in that takes 20 ms and more for an insert. With `--sqlite` the reducer keeps its records in SQLite on disk
instead, which shows the time of all other parts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fedmq.brokers.base import Outgoing
from fedmq.brokers.rabbitmq.broker import RabbitmqBroker
from fedmq.errors import FedMQError
from fedmq.records.sqlite import SqliteRecords
from fedmq.scheduler import ThreadScheduler
from fedmq_schemas import records as tables
from fedmq_schemas.topology import Topology, plan_key
from system.deployment import Deployment, private_servers

WITH_SQLITE = """
import sys
from pathlib import Path
from fedmq.records.sqlite import SqliteRecords
from fedmq_cli.app import app
from fedmq_reducer import app as reducer

reducer.open_records = lambda settings: SqliteRecords(settings.state_dir.parent / "records.db", fsync=True)
app(["run", sys.argv[1]])
"""
WARM = 5
LIMIT_MS = 150.0
EPOCH = 1
"""The name of the only reducer of this benchmark."""
TRAINER = """
import numpy as np

class Trainer:
    def __init__(self, client): ...
    def train(self, weights, task):
        return {name: value + np.float32(0.01) for name, value in weights.items()}, 10, {}
"""


def each_ms(work: Callable[[int], object], times: int = 50) -> float:
    """The median of some calls."""
    took = []
    for number in range(times):
        began = time.perf_counter()
        work(number)
        took.append(1e3 * (time.perf_counter() - began))
    return median(took)


def confirmed_ms(deployment: Deployment) -> float:
    """One message to a quorum queue, confirmed."""
    scheduler = ThreadScheduler()
    connection = RabbitmqBroker(deployment.servers.rabbitmq.url, scheduler).connect("floor")
    topology = Topology("floor")
    connection.declare(topology.combiner("c"))

    def publish(number: int) -> None:
        def confirmed(_: FedMQError | None) -> None:
            scheduler.stop()

        message = Outgoing(topology.exchange("task"), plan_key("c"), b"x" * 500, str(number))
        scheduler.post(lambda: connection.publish(message, confirmed))
        scheduler.run()

    publish(-1)
    took = each_ms(publish)
    connection.delete(topology.combiner("c").name)
    connection.close()
    scheduler.close()
    return took


def floors(deployment: Deployment) -> dict[str, float]:
    """What one step of each server takes, with nothing else going on."""
    blobs, found, data = deployment.blobs, deployment.records, b"x" * 10_000
    return {
        "confirmed message": confirmed_ms(deployment),
        "blob put": each_ms(lambda number: blobs.put(f"updates/floor/{number}", data)),
        "blob get": each_ms(lambda number: blobs.get(f"updates/floor/{number}")),
        "document insert": each_ms(lambda number: found.insert("floor", str(number), {"number": number}, fence=EPOCH)),
        "document put": each_ms(lambda number: found.put("floor", str(number), {"number": number}, fence=EPOCH)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--sqlite", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "package").mkdir()
        (folder / "package" / "fedn.yaml").write_text("trainer: trainer.py:Trainer\n")
        (folder / "package" / "trainer.py").write_text(TRAINER)
        servers = private_servers(folder)
        try:
            servers.start()
            with Deployment(folder / "alliance", servers, "bench", package=folder / "package") as deployment:
                if options.sqlite:
                    use_sqlite(deployment)
                deployment.start(clients=options.clients)
                measure(deployment, options.rounds, options.clients)
        finally:
            servers.remove()


def use_sqlite(deployment: Deployment) -> None:
    """Has reducers that are started from now on, and the deployment itself, keep records in one SQLite file on disk."""
    deployment.programs["reducer"] = (sys.executable, "-c", WITH_SQLITE)
    folder = deployment.folder / "state"
    folder.mkdir()
    deployment.records = SqliteRecords(folder / "records.db", fsync=True)


def stages(deployment: Deployment) -> dict[str, float]:
    """The medians of a round's stages, from the times that the records keep."""
    committed = {doc["round"]: doc["committed_at"] for doc in deployment.records.find(tables.ROUNDS)}
    drawn = {doc["round"]: doc["created_at"] for doc in deployment.records.find(tables.ATTEMPTS)}
    folded = {doc["round"]: doc["at"] for doc in deployment.records.find(tables.PARTICIPATION)}
    rounds = [number for number in sorted(drawn) if number > WARM]
    return {
        "draw until the first update is folded": 1e3 * median(min(folded[n]) - drawn[n] for n in rounds),
        "until the last one is": 1e3 * median(max(folded[n]) - min(folded[n]) for n in rounds),
        "until the model is made": 1e3 * median(committed[n] - max(folded[n]) for n in rounds),
        "until it is recorded and the next draw begins": 1e3 * median(drawn[n + 1] - committed[n] for n in rounds[:-1]),
    }


def measure(deployment: Deployment, rounds: int, clients: int) -> None:
    model = deployment.seed({"0": np.zeros((50, 40), np.float32), "1": np.zeros(500, np.float32)})
    deployment.start_session(
        "bench", seed=model, rounds=rounds, clients_required=clients, random_seed=1, validation="none"
    )
    ended = deployment.await_end("bench", 10.0 * rounds)
    if ended["state"] != "finished":
        raise SystemExit(f"the session {ended['state']}: {ended['reason']}")
    committed = deployment.records.find(tables.ROUNDS, {"session": "bench"}, order="round")
    times = [document["committed_at"] for document in committed]
    took = sorted(1e3 * (after - before) for before, after in zip(times[WARM:], times[WARM + 1 :], strict=False))
    print(f"{clients} client processes, 2 combiners, 10 kB model, training without cost: ms from commit to commit")
    print(f"median {median(took):.0f}  least {took[0]:.0f}  most {took[-1]:.0f}  (wanted: at most {LIMIT_MS:.0f})")
    for what, ms in stages(deployment).items():
        print(f"  {what:<44} {ms:6.1f} ms")
    print("Flower deployed 14000-16000, NVFlare's simulator 2500, FEDn with 3 clients 1500")
    for what, ms in floors(deployment).items():
        print(f"  {what:<18} {ms:6.1f} ms")


if __name__ == "__main__":
    main()
