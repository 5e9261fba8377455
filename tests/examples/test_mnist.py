"""The MNIST example: it learns, only from true labels, and its score can be had without FedMQ."""

import runpy
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from examples.packages import Rounds
from fedmq import tensors
from fedmq_client import Client
from fedmq_client.pool.processes import ProcessPool

EXAMPLE = Path(__file__).parents[2] / "examples" / "mnist"
DATA = EXAMPLE / "data" / "mnist-12k.npz"


def _rounds(pool: ProcessPool, data: Path | None = None) -> Rounds:
    """Two clients that train on digits of the folder `data`, by default on the example's own."""
    return Rounds(EXAMPLE / "client", 2, lambda n: Client(f"c{n}", data=data, ordinal=n, count=2), pool)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPool]:
    with closing(ProcessPool(2, device="cpu", threads=1)) as pool:
        yield pool


@pytest.fixture(scope="module")
def seed(pool: ProcessPool) -> bytes:
    return _rounds(pool).init()


@pytest.fixture(scope="module")
def trained(pool: ProcessPool, seed: bytes) -> bytes:
    return _rounds(pool).round(seed)


def _evaluate(model: bytes, folder: Path) -> dict[str, float]:
    path = folder / "model.safetensors"
    path.write_bytes(model)
    scores: dict[str, float] = runpy.run_path(str(EXAMPLE / "evaluate.py"))["evaluate"](path)
    return scores


def test_an_untrained_model_is_right_once_in_ten(seed: bytes, tmp_path: Path) -> None:
    assert sum(value.size for value in tensors.decode(seed)[0].values()) == 1_199_882
    assert _evaluate(seed, tmp_path)["accuracy"] < 0.2


def test_one_round_of_two_clients_learns_and_both_scores_agree(
    pool: ProcessPool, trained: bytes, tmp_path: Path
) -> None:
    result = _rounds(pool).run("validate", Client("e", tasks=("validate",)), trained)
    assert result.examples == 2000
    assert result.metrics["accuracy"] > 0.88
    assert _evaluate(trained, tmp_path)["accuracy"] == pytest.approx(result.metrics["accuracy"], abs=5e-5)


def test_shuffled_labels_teach_nothing(pool: ProcessPool, seed: bytes, tmp_path: Path) -> None:
    with np.load(DATA) as digits:
        arrays = {name: digits[name] for name in digits.files}
    arrays["y_train"] = np.random.default_rng(0).permutation(arrays["y_train"])
    np.savez(tmp_path / DATA.name, **arrays)
    model = _rounds(pool, data=tmp_path).round(seed)
    assert _rounds(pool).score(model)["accuracy"] < 0.2


def test_another_worker_process_trains_to_the_same_bytes(seed: bytes, trained: bytes) -> None:
    with closing(ProcessPool(1, device="cpu", threads=1)) as pool:
        assert _rounds(pool).round(seed) == trained


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
