"""The regression example: federated gradient steps find what the pooled data would give."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from examples.packages import Rounds
from fedmq import tensors
from fedmq_client import Client

EXAMPLE = Path(__file__).parents[2] / "examples" / "numpy_regression"
ROUNDS = 12


@pytest.mark.parametrize(("clients", "dirichlet"), [(1, None), (5, None), (7, 0.1)])
def test_twelve_rounds_come_within_one_percent_of_the_closed_form_solution(
    tmp_path: Path, clients: int, dirichlet: float | None
) -> None:
    def site(number: int) -> Client:
        return Client(name=f"c{number}", ordinal=number, count=clients, random_seed=1, dirichlet=dirichlet)

    rounds = Rounds(EXAMPLE / "client", clients, site)
    model = rounds.init()
    assert sum(rounds.run("train", each, model).examples or 0 for each in rounds.sites) == 400
    for _ in range(ROUNDS):
        model = rounds.round(model)
    path = tmp_path / "model.safetensors"
    path.write_bytes(model)
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
    zeros = {"coefficients": np.zeros(7), "intercept": np.zeros(1)}
    evaluator = Client(name="e", tasks=("validate",))
    assert Rounds(EXAMPLE / "client", 1).run("validate", evaluator, tensors.encode(zeros, {})).examples == 42


@pytest.mark.parametrize(("tasks", "action"), [(("train", "validate"), "train"), (("validate",), "validate")])
def test_a_site_with_a_file_of_its_own_uses_all_of_its_rows(
    tmp_path: Path, tasks: tuple[str, ...], action: str
) -> None:
    file = tmp_path / "rows.csv"
    lines = (EXAMPLE / "data" / "diabetes.csv").read_text().splitlines()
    file.write_text("\n".join(lines[:111]))
    zeros = {"coefficients": np.zeros(7), "intercept": np.zeros(1)}
    site = Client(name="s", ordinal=1, count=4, tasks=tasks, data=file)
    assert Rounds(EXAMPLE / "client", 1).run(action, site, tensors.encode(zeros, {})).examples == 110
