"""A package whose trainer is what a test says, and jobs that run in the test's thread."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fedmq import tensors
from fedmq_client import Client, Task, Weights
from fedmq_client.job.job import Job, Result
from fedmq_client.pool.inline import InlinePool

MODEL: Weights = {f"t{i}": np.full(2, i, np.float32) for i in range(5)}
BLOB = tensors.encode(MODEL, {"roles": {"t0": "statistic"}})


CODE = """
class Made:
    def __new__(cls, client):
        import site_under_test
        return site_under_test.make(client)

    def train(self): ...
"""


class Site:
    """A package whose trainer is what a test says."""

    def __init__(self, folder: Path, modules: dict[str, Any]) -> None:
        self.folder = folder
        self.pool = InlinePool()
        self.reported: list[Any] = []
        self.made: list[Client] = []
        self._modules = modules
        (folder / "fedn.yaml").write_text("trainer: code.py:Made\n")
        (folder / "code.py").write_text(CODE)

    def serve(self, **methods: Any) -> None:
        trainer = SimpleNamespace(**methods)

        def make(client: Client) -> SimpleNamespace:
            self.made.append(client)
            return trainer

        self._modules["site_under_test"] = SimpleNamespace(make=make)

    def run(self, **changes: Any) -> Result:
        job = Job(id="j", client=Client("c"), package=self.folder, kind="train", model=BLOB)
        self.pool.submit(
            replace(job, **changes),
            self.reported.append,
            lambda *report: self.reported.append(report),
            self.reported.append,
        )
        result = self.reported[-1]
        assert isinstance(result, Result)
        return result


def same(weights: Weights, task: Task) -> Any:
    return weights, 1, {}
