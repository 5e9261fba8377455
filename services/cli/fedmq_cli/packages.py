"""A package at work outside of any alliance: its first model, and a trial of all that a client would ask of it."""

from __future__ import annotations

import queue
from pathlib import Path

from fedmq.errors import ConfigError
from fedmq_client.package import load
from fedmq_client.pool import Job, Result
from fedmq_client.processes import ProcessPool
from fedmq_client.trainer import Client

INIT_SECONDS = 600.0


def first_model(package: Path, random_seed: int) -> bytes:
    """What the trainer's `init` makes, in a worker process. Raises ConfigError with the traceback."""
    load(package)
    pool = ProcessPool(1)
    results: queue.SimpleQueue[Result] = queue.SimpleQueue()
    try:
        client = Client("init", random_seed=random_seed)
        job = Job(id="init", client=client, package=package, kind="init", timeout=INIT_SECONDS, seed=random_seed)
        pool.submit(job, lambda _: None, lambda *_: None, results.put)
        result = results.get()
    finally:
        pool.close()
    if result.outcome != "done" or result.update is None:
        raise ConfigError(f"the package's init made no model: {result.reason}\n{result.traceback}".rstrip())
    return result.update if isinstance(result.update, bytes) else result.update.read_bytes()
