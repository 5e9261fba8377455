"""Rounds of an example's package, as a session would ask for them."""

from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np

from fedmq import tensors
from fedmq_client import Client
from fedmq_client.job.job import Job, Pool, Result
from fedmq_client.pool.inline import InlinePool

Site = Callable[[int], Client]


class Rounds:
    """Trains a package with some clients; `site` makes the client of each ordinal. Without a pool in this process."""

    def __init__(
        self, package: Path, clients: int, site: Site | None = None, pool: Pool | None = None, **config: Any
    ) -> None:
        self.package = package
        self.sites = [(site or self._site(clients))(number) for number in range(clients)]
        self.config = config
        self._pool = pool or InlinePool()

    @staticmethod
    def _site(clients: int) -> Site:
        return lambda number: Client(f"c{number}", ordinal=number, count=clients, random_seed=1)

    def run(self, kind: Any, client: Client, model: bytes | None = None) -> Result:
        return self._run_all(kind, [client], model)[0]

    def _run_all(self, kind: Any, clients: list[Client], model: bytes | None) -> list[Result]:
        """Runs a job of each client, together if the pool has several workers."""
        ended: Queue[Result] = Queue()
        jobs = [
            Job(f"{kind}-{each.name}", each, self.package, kind, config=self.config, model=model) for each in clients
        ]
        for job in jobs:
            self._pool.submit(job, lambda _: None, lambda *_: None, ended.put)
        results = {result.job: result for result in (ended.get(timeout=100) for _ in jobs)}
        assert {result.outcome for result in results.values()} == {"done"}, results
        return [results[job.id] for job in jobs]

    def init(self) -> bytes:
        model = self.run("init", self.sites[0]).update
        assert isinstance(model, bytes)
        return model

    def round(self, model: bytes) -> bytes:
        """The weighted mean of what all clients make of the model."""
        weights, meta = tensors.decode(model)
        sums: dict[str, Any] = dict.fromkeys(weights, 0.0)
        total = 0
        for result in self._run_all("train", self.sites, model):
            assert isinstance(result.update, bytes) and result.examples
            total += result.examples
            for name, delta in tensors.decode(result.update)[0].items():
                sums[name] = sums[name] + result.examples * delta.astype(np.float64)
        return tensors.encode(tensors.apply(weights, {name: value / total for name, value in sums.items()}), meta)

    def score(self, model: bytes) -> dict[str, Any]:
        """The evaluator's metrics."""
        return self.run("validate", Client("evaluator", count=len(self.sites), tasks=("validate",)), model).metrics
