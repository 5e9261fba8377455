"""The regression example: federated gradient steps find what the pooled data would give."""

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmq import tensors
from fedmq_client import Client
from fedmq_client.job.job import Job, Result
from fedmq_client.pool.inline import InlinePool

EXAMPLE = Path(__file__).parents[2] / "examples" / "numpy_regression"
ROUNDS = 12


def _run(pool: InlinePool, job: Job) -> Result:
    results: list[Result] = []
    pool.submit(job, lambda _: None, lambda *_: None, results.append)
    assert results[0].outcome == "done", results[0]
    return results[0]


def _federate(clients: int, dirichlet: float | None) -> dict[str, Any]:
    pool = InlinePool()
    sites = [Client(name=f"c{i}", ordinal=i, count=clients, random_seed=1, dirichlet=dirichlet) for i in range(clients)]
    job = Job(id="init", client=sites[0], package=EXAMPLE / "client", kind="init")
    blob = _run(pool, job).update
    for number in range(1, ROUNDS + 1):
        assert isinstance(blob, bytes)
        model = tensors.decode(blob)[0]
        results = [
            _run(
                pool,
                replace(job, id=site.name, client=site, kind="train", round=number, model=blob),
            )
            for site in sites
        ]
        total = sum(result.examples or 0 for result in results)
        step = {name: np.zeros_like(value) for name, value in model.items()}
        for result in results:
            assert isinstance(result.update, bytes) and result.examples
            for name, value in tensors.decode(result.update)[0].items():
                step[name] += result.examples * value / total
        blob = tensors.encode(tensors.apply(model, step), {})
    assert isinstance(blob, bytes)
    return {"blob": blob, "examples": total}


@pytest.mark.parametrize(("clients", "dirichlet"), [(1, None), (5, None), (7, 0.1)])
def test_twelve_rounds_come_within_one_percent_of_the_closed_form_solution(
    tmp_path: Path, clients: int, dirichlet: float | None
) -> None:
    found = _federate(clients, dirichlet)
    assert found["examples"] == 400
    path = tmp_path / "model.safetensors"
    path.write_bytes(found["blob"])
    scores = runpy.run_path(str(EXAMPLE / "evaluate.py"))["evaluate"](path)
    assert scores["distance"] < 0.01
    assert scores["train/mse"] < scores["closed_form/train/mse"] * 1.001


def test_an_untrained_model_is_far_from_the_closed_form_solution(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    zeros = {"coefficients": np.zeros(7), "intercept": np.zeros(1)}
    path.write_bytes(tensors.encode(zeros, {}))
    scores = runpy.run_path(str(EXAMPLE / "evaluate.py"))["evaluate"](path)
    assert scores["distance"] == pytest.approx(1)


def test_the_evaluator_scores_rows_that_no_client_trains_on() -> None:
    pool = InlinePool()
    client = Client(name="e", tasks=("validate",))
    zeros = {"coefficients": np.zeros(7), "intercept": np.zeros(1)}
    job = Job("1", client, EXAMPLE / "client", "validate", model=tensors.encode(zeros, {}))
    assert _run(pool, job).examples == 42
