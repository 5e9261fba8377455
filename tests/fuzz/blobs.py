"""Mutated updates through real presigned URLs: each is rejected with a reason or valid, and no rejected one is in a sum.

    python -m fuzz.blobs --blobs 3000

Run it in `tests`, or with that folder on `PYTHONPATH`. Clients of this process train, change the bytes of their update, and
upload it with the client's own code. Two clients that change nothing run as processes. Each model is recomputed from its
round's ledger. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedmq.brokers.rabbitmq.broker import RabbitmqBroker
from fedmq.runtime.actor import Actor
from fedmq.scheduler import ThreadScheduler
from fedmq_client.job.job import Job, OnDone, OnProgress, OnValidation, Result
from fedmq_client.pool.inline import InlinePool
from fedmq_client.role.actor import client_actor
from fedmq_client.role.model_cache import Models
from fedmq_client.role.store import MemoryStore
from fedmq_client.trainer import Client
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Attach
from fedmq_schemas.topology import Topology
from system.deployment import PACKAGE, Deployment, private_servers

HONEST = 2
END_SECONDS = 1800.0


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Returns the header of a safetensors blob, and the bytes of its tensors."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: Any, tensors: bytes) -> bytes:
    """Returns a safetensors blob of a header and the bytes of tensors."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + tensors


def mutated(source: random.Random, data: bytes) -> bytes:
    """Returns the blob with one thing changed: a length, a dtype, a shape, offsets, a name, values, or any byte."""
    header, tensors = header_of(data)
    name = source.choice([name for name in header if name != "__metadata__"])
    entry, place = header[name], source.randrange(len(data))
    begin, end = entry["data_offsets"]
    edits: list[Callable[[], Any]] = [
        lambda: entry.update(dtype=source.choice(["F16", "F64", "I64", "BOOL", "BF16", "U8", "X", "", None, 7])),
        lambda: entry.update(shape=source.choice([[], [0], [-1], [2**63], [2**32, 2**32], [1, 1], "x", None, [1.5]])),
        lambda: entry.update(
            data_offsets=source.choice([[end, begin], [0, 0], [begin, end + 4], [-4, end], [0, 2**63]])
        ),
        lambda: entry.update(data_offsets=[0, end - begin]),
        lambda: header.pop(name),
        lambda: header.update({source.choice(["other", "", "a\0b", "x" * 70_000, "../x"]): entry}),
        lambda: header.update({name: source.choice([None, [], "x", {}, {"dtype": "F32"}])}),
        lambda: header.update(
            __metadata__=source.choice([None, [], {"fedmq": "x"}, {"fedmq": 7}, {"a": "b" * 99_999}])
        ),
        lambda: header.update({f"extra{number}": entry for number in range(source.choice([1, 3000]))}),
    ]
    if source.random() < 0.6:
        source.choice(edits)()
        return joined(header, tensors)
    odd = source.choice([b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\xff\xff\x7f\x7f", source.randbytes(4)])
    whole: list[Callable[[], bytes]] = [
        lambda: data[:place],
        lambda: data + source.randbytes(source.randrange(1, 99)),
        lambda: data[:place] + source.randbytes(1) + data[place + 1 :],
        lambda: source.randbytes(8) + data[8:],
        lambda: source.choice([0, 1, 2**31, 2**62, len(data)]).to_bytes(8, "little") + data[8:],
        lambda: joined(header, odd + tensors[4:]),
        lambda: joined(header, odd * (len(tensors) // 4)),
        lambda: joined(json.loads("[" * 90 + "]" * 90), tensors),
        lambda: (100_000).to_bytes(8, "little") + b'{"a":' + b"[" * 99_990,
        lambda: source.randbytes(source.randrange(200)),
        lambda: b"",
    ]
    return source.choice(whole)()


class MutatingPool(InlinePool):
    """Trains, and changes the update."""

    def __init__(self, source: random.Random) -> None:
        super().__init__()
        self._source = source

    def submit(self, job: Job, on_validation: OnValidation, on_progress: OnProgress, on_done: OnDone) -> None:
        """Runs the job, and reports its update changed."""

        def done(result: Result) -> None:
            if isinstance(result.update, Path):
                result.update.write_bytes(mutated(self._source, result.update.read_bytes()))
            elif result.update is not None:
                result = Result(job.id, "done", 7, {}, mutated(self._source, result.update))
            on_done(result)

        super().submit(job, on_validation, on_progress, done)


@contextmanager
def mutating_clients(deployment: Deployment, count: int, seed: int) -> Iterator[None]:
    """Runs clients that change their updates, on a thread of this process."""
    scheduler, topology = ThreadScheduler(threads=4), Topology(deployment.alliance)
    broker = RabbitmqBroker(deployment.servers.rabbitmq.url, scheduler)
    ids = itertools.count()
    actors: list[Actor] = []

    def start() -> None:
        for number in range(HONEST + 1, HONEST + 1 + count):
            name = f"client-{number}"
            actor = client_actor(
                Client(name),
                Attach(weight=7 * number),
                PACKAGE,
                broker.connect(name),
                scheduler,
                topology,
                pool=MutatingPool(random.Random(f"{seed}/{number}")),
                store=MemoryStore(),
                models=Models(None),
                new_id=lambda: f"mutating-{os.getpid()}-{next(ids)}",
            )
            actors.append(actor)
            actor.start()

    def end() -> None:
        for actor in actors:
            actor.kill()
        scheduler.stop()

    scheduler.post(start)
    thread = threading.Thread(target=scheduler.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        scheduler.post(end)
        thread.join(10)
        scheduler.close()


def run_blobs(deployment: Deployment, blobs: int, clients: int, seed: int) -> list[str]:
    """Runs as many rounds as it takes, and returns everything that is wrong."""
    session, rounds = "mutated", -(-blobs // clients)
    policy = {"clients_required": HONEST, "timeout": 60, "validation": "none", "random_seed": 7, "wait": 600}
    with mutating_clients(deployment, clients, seed):
        deployment.await_present(tables.CLIENTS, HONEST + clients)
        deployment.start_session(session, seed=deployment.seed(), rounds=rounds, **policy)
        ended = deployment.await_end(session, END_SECONDS)
    found = [] if ended["state"] == "finished" else [f"the session is {ended['state']}: {ended['reason']}"]
    counts: Counter[str] = Counter()
    for ledger in deployment.check_ledgers(session, rounds=deployment.round_of(session), has_mean=False):
        for entry in ledger.entries:
            number = int(entry.client.rpartition("-")[2])
            if number <= HONEST and entry.outcome != "accepted":
                found.append(f"{entry.client} is {entry.outcome}: {entry.reason}")
            if number > HONEST:
                counts[entry.outcome] += 1
                if entry.outcome == "rejected" and not entry.reason:
                    found.append(f"{entry.client} is rejected without a reason")
    print(", ".join(f"{count:,} {outcome}" for outcome, count in counts.items()), flush=True)
    found += [f"{name} has ended" for name, node in deployment.nodes.items() if not node.is_running]
    faults = deployment.records.find(tables.EVENTS, {"name": "actor.error"})
    return [*found, *{str(event["data"]["reason"])[:300] for event in faults}]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blobs", type=int, default=3000)
    parser.add_argument("--clients", type=int, default=30, help="clients that change their updates")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="fedmq-fuzz-", ignore_cleanup_errors=True) as name:
        servers = private_servers(Path(name))
        try:
            servers.start()
            with Deployment(Path(name) / "alliance", servers, "blobs", presence=10.0) as deployment:
                deployment.start(clients=HONEST)
                found = run_blobs(deployment, options.blobs, options.clients, options.seed)
        finally:
            servers.remove()
    print("\n".join(found) or "nobody was harmed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
