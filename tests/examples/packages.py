"""Rounds of an example's package, as a session would ask for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedmq import tensors
from fedmq_client import Client
from fedmq_client.job.job import Job, Result
from fedmq_client.pool.inline import InlinePool

Site = Callable[[int], Client]


class Rounds:
    """Trains a package with some clients; `site` makes the client of each ordinal."""

    def __init__(self, package: Path, clients: int, site: Site | None = None, **config: Any) -> None:
        self.package = package
        self.sites = [(site or self._site(clients))(number) for number in range(clients)]
        self.config = config
        self._pool = InlinePool()

    @staticmethod
    def _site(clients: int) -> Site:
        return lambda number: Client(f"c{number}", ordinal=number, count=clients, random_seed=1)

    def run(self, kind: Any, client: Client, model: bytes | None = None) -> Result:
        results: list[Result] = []
        job = Job(f"{kind}-{client.name}", client, self.package, kind, config=self.config, model=model)
        self._pool.submit(job, lambda _: None, lambda *_: None, results.append)
        assert results[0].outcome == "done", results[0]
        return results[0]

    def init(self) -> bytes:
        model = self.run("init", self.sites[0]).update
        assert isinstance(model, bytes)
        return model

    def round(self, model: bytes) -> bytes:
        """The weighted mean of what all clients make of the model."""
        weights, meta = tensors.decode(model)
        sums: dict[str, Any] = dict.fromkeys(weights, 0.0)
        total = 0
        for site in self.sites:
            result = self.run("train", site, model)
            assert isinstance(result.update, bytes) and result.examples
            total += result.examples
            for name, delta in tensors.decode(result.update)[0].items():
                sums[name] = sums[name] + result.examples * delta.astype(np.float64)
        return tensors.encode(tensors.apply(weights, {name: value / total for name, value in sums.items()}), meta)

    def score(self, model: bytes) -> dict[str, Any]:
        """The evaluator's metrics."""
        return self.run("validate", Client("evaluator", count=len(self.sites), tasks=("validate",)), model).metrics
