"""Measures what grows with clients, model and rounds, and prints the tables of docs/how-to/size.md.

    python benchmarks/sizing.py [--rounds 3] [--megabytes 0.01 1 10]

Small on purpose: real servers, a reducer, a combiner and four clients as processes on this machine, a few minutes. Training
adds a constant, so no framework is in memory. Records are counted as the BSON that MongoDB receives, without its compression
and its indexes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import bson
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from deployed_round import TRAINER

from fedmq.tensors import tensorblob
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from system.deployment import Deployment, private_servers
from system.node import Node

STEP = 2
"""Clients that are added between two looks at the broker."""
MB = 1_000_000


def broker_counts(deployment: Deployment) -> dict[str, int]:
    """Returns what the broker has open. Its management API refreshes the counts every five seconds."""
    broker = deployment.servers.rabbitmq

    def known() -> bool:
        running = sum(node.is_running for node in deployment.nodes.values())
        return len(broker.manage("GET", "connections")) >= running and "fd_used" in broker.manage("GET", "nodes")[0]

    deployment.until(known, "counts of the broker")
    lines = broker.control("list_connections", "pid").splitlines()
    return {
        "connections": len([line for line in lines if line.startswith("<")]),
        "queues": len(broker.manage("GET", "queues")),
    }


def open_files(node: Node) -> int:
    return len(list(Path(f"/proc/{_pid(node)}/fd").iterdir()))


def forget_peak(node: Node) -> None:
    """Sets the peak of a process's memory to what it uses now."""
    Path(f"/proc/{_pid(node)}/clear_refs").write_text("5")


def peak(node: Node) -> float:
    """Returns the megabytes of RAM that a process has used at most."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{_pid(node)}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024 / MB


def _pid(node: Node) -> int:
    assert node.process is not None
    return node.process.pid


def record_bytes(deployment: Deployment) -> dict[str, int]:
    """Returns the bytes of all records by table."""
    found: dict[str, int] = {}
    for table in tables.TABLES:
        found[table] = sum(len(bson.encode(dict(row))) for row in deployment.records.find(table))
    return found


def blob_bytes(deployment: Deployment) -> dict[str, int]:
    """Returns the bytes of all blobs by bucket."""
    found = dict.fromkeys(keys.BUCKETS, 0)
    for info in deployment.blobs.list(""):
        found[info.key.partition("/")[0]] += info.size
    return found


def run(deployment: Deployment, session: str, clients: int, rounds: int, megabytes: float) -> dict[str, float]:
    """Runs a session, and returns what a round has added to the stores and the peaks of memory."""
    seed = tensorblob.encode({"weights": np.zeros(int(megabytes * MB / 4), np.float32)})
    deployment.blobs.put(keys.model_blob(f"seed-{session}"), seed)
    for name in ("reducer-1", "combiner-1", "client-1"):
        forget_peak(deployment.nodes[name])
    blobs, records = blob_bytes(deployment), record_bytes(deployment)
    policy: dict[str, Any] = {"clients_required": clients, "clients_requested": clients, "timeout": 120}
    deployment.start_session(session, seed=f"seed-{session}", rounds=rounds, **policy)
    assert deployment.await_end(session)["state"] == "finished"
    grown = {name: count - blobs[name] for name, count in blob_bytes(deployment).items()}
    rows = sum(record_bytes(deployment).values()) - sum(records.values())
    return {
        "models": grown["models"] / rounds,
        "updates": grown["updates"] / rounds,
        "records": rows / rounds,
        **{role: peak(deployment.nodes[f"{role}-1"]) for role in ("reducer", "combiner", "client")},
    }


def print_table(title: list[str], rows: list[list[str]]) -> None:
    print()
    for row in (title, ["---"] * len(title), *rows):
        print(f"| {' | '.join(row)} |", flush=True)


def measure(deployment: Deployment, rounds: int, sizes: list[float]) -> None:
    deployment.start(combiners=1, clients=0)
    counts = []
    for clients in (0, STEP, 2 * STEP):
        for number in range(clients - STEP + 1, clients + 1):
            if number > 0:
                deployment.add("client", number)
        deployment.await_present(tables.CLIENTS, clients)
        broker = broker_counts(deployment)
        files = [open_files(deployment.nodes[name]) for name in ("reducer-1", "combiner-1")]
        counts.append([str(clients), str(broker["connections"]), str(broker["queues"]), *map(str, files)])
    print_table(["clients", "connections", "queues", "files of the reducer", "files of the combiner"], counts)

    few = run(deployment, "few", STEP, rounds, sizes[0])
    found = [(size, run(deployment, f"size-{index}", 2 * STEP, rounds, size)) for index, size in enumerate(sizes)]
    many = found[0][1]
    rows = []
    for size, each in found:
        stored = [f"{each[name] / MB:.2g}" for name in ("models", "updates")]
        rows.append([f"{size:g}", *stored, *(f"{each[role]:.0f}" for role in ("reducer", "combiner", "client"))])
    roles = ["memory of the reducer", "of the combiner", "of a client without its worker"]
    print_table(["model", "bucket models, a round", f"bucket updates, a round of {2 * STEP} clients", *roles], rows)
    one = (many["records"] - few["records"]) / STEP
    print_table(
        ["records of a round", "kB"],
        [["for each client", f"{one / 1000:.2f}"], ["besides", f"{(few['records'] - STEP * one) / 1000:.2f}"]],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[0.01, 1.0, 10.0])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        package = Path(name) / "package"
        package.mkdir()
        (package / "fedn.yaml").write_text("trainer: trainer.py:Trainer\n")
        (package / "trainer.py").write_text(TRAINER)
        servers = private_servers(Path(name))
        try:
            servers.start()
            with Deployment(Path(name) / "alliance", servers, "sizing", presence=10.0, package=package) as deployment:
                measure(deployment, options.rounds, options.megabytes)
        finally:
            servers.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
