"""The MNIST example: it learns, only from true labels, and its score can be had without FedMQ."""

import runpy
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmq import tensors
from fedmq_client import Client
from fedmq_client.job.job import Job, Result
from fedmq_client.pool.processes import ProcessPool

EXAMPLE = Path(__file__).parents[2] / "examples" / "mnist"
DATA = EXAMPLE / "data" / "mnist-12k.npz"


class Federation:
    """Rounds of training in worker processes, their mean taken here."""

    def __init__(self, pool: ProcessPool) -> None:
        self.pool = pool

    def run(self, *jobs: Job) -> list[Result]:
        ended = threading.Semaphore(0)
        results: dict[str, Result] = {}

        def on_done(result: Result) -> None:
            results[result.job] = result
            ended.release()

        for job in jobs:
            self.pool.submit(job, lambda _: None, lambda *_: None, on_done)
        for _ in jobs:
            assert ended.acquire(timeout=100)
        for result in results.values():
            assert result.outcome == "done", result
        return [results[job.id] for job in jobs]

    def init(self) -> bytes:
        (result,) = self.run(Job("init", Client("i"), EXAMPLE / "client", "init"))
        assert isinstance(result.update, bytes)
        return result.update

    def round(self, model: bytes, clients: int, data: Path | None = None) -> bytes:
        jobs = [
            Job(f"t{n}", Client(f"c{n}", data=data, ordinal=n, count=clients), EXAMPLE / "client", "train", model=model)
            for n in range(clients)
        ]
        results = self.run(*jobs)
        weights, meta = tensors.decode(model)
        step: dict[str, Any] = dict.fromkeys(weights, 0.0)
        for result in results:
            assert isinstance(result.update, bytes)
            for name, value in tensors.decode(result.update)[0].items():
                step[name] = step[name] + value.astype(np.float64) / clients
        return tensors.encode(tensors.apply(weights, step), meta)

    def score(self, model: bytes) -> Result:
        client = Client("e", tasks=("validate",))
        return self.run(Job("e", client, EXAMPLE / "client", "validate", model=model))[0]


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    pool = ProcessPool(2, device="cpu", threads=1)
    yield Federation(pool)
    pool.close()


@pytest.fixture(scope="module")
def seed(federation: Federation) -> bytes:
    return federation.init()


@pytest.fixture(scope="module")
def trained(federation: Federation, seed: bytes) -> bytes:
    return federation.round(seed, clients=2)


def _evaluate(model: bytes, folder: Path) -> dict[str, float]:
    path = folder / "model.safetensors"
    path.write_bytes(model)
    scores: dict[str, float] = runpy.run_path(str(EXAMPLE / "evaluate.py"))["evaluate"](path)
    return scores


def test_an_untrained_model_is_right_once_in_ten(seed: bytes, tmp_path: Path) -> None:
    assert sum(value.size for value in tensors.decode(seed)[0].values()) == 1_199_882
    assert _evaluate(seed, tmp_path)["accuracy"] < 0.2


def test_one_round_of_two_clients_learns_and_both_scores_agree(
    federation: Federation, trained: bytes, tmp_path: Path
) -> None:
    result = federation.score(trained)
    assert result.examples == 2000
    assert result.metrics["accuracy"] > 0.88
    assert _evaluate(trained, tmp_path)["accuracy"] == pytest.approx(result.metrics["accuracy"], abs=5e-5)


def test_shuffled_labels_teach_nothing(federation: Federation, seed: bytes, tmp_path: Path) -> None:
    with np.load(DATA) as digits:
        arrays = {name: digits[name] for name in digits.files}
    arrays["y_train"] = np.random.default_rng(0).permutation(arrays["y_train"])
    np.savez(tmp_path / DATA.name, **arrays)
    model = federation.round(seed, clients=2, data=tmp_path)
    assert federation.score(model).metrics["accuracy"] < 0.2


def test_another_worker_process_trains_to_the_same_bytes(seed: bytes, trained: bytes) -> None:
    pool = ProcessPool(1, device="cpu", threads=1)
    try:
        assert Federation(pool).round(seed, clients=2) == trained
    finally:
        pool.close()


def test_init_model_writes_what_the_trainers_init_makes(seed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "seed.safetensors"
    runpy.run_path(str(EXAMPLE / "init_model.py"))["write"](path, 0)
    assert path.read_bytes() == seed


def test_test_digits_are_in_no_clients_part() -> None:
    with np.load(DATA) as digits:
        train = {image.tobytes() for image in digits["x_train"]}
        test = {image.tobytes() for image in digits["x_test"]}
    assert (len(train), len(test)) == (10_000, 2_000)
    assert not train & test
