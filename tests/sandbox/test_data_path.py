"""FEDN_DATA_PATH in a sandbox and in a check: each client has its own file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fedmq.errors import ConfigError
from fedmq_cli.package_trial import client_here, templates
from fedmq_sandbox import Sandbox
from fedmq_schemas import records as tables
from support.packages import write_package

TRAINER = """
import numpy as np

class Trainer:
    test_set = True

    def __init__(self, client):
        self.data = client.data

    def init(self):
        return {"w": np.zeros(1)}

    def train(self, weights, task):
        return {"w": weights["w"] + (0 if self.data is None else np.load(self.data)["x"].sum())}, 1, {}

    def validate(self, weights, task):
        return 1, {"score": -1.0 if self.data is None else float(np.load(self.data)["x"].sum())}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    for name, value in (("1", 1.0), ("2", 3.0), ("evaluator", 7.0)):
        np.savez(tmp_path / "data" / f"{name}.npz", x=np.array([value]), y=np.zeros(1))
    monkeypatch.chdir(tmp_path)
    return write_package(tmp_path / "package", TRAINER)


def _trained(package: Path, state_dir: Path | None = None) -> tuple[float, float, Sequence[str]]:
    """Returns the weight of the model of one round, its test score, and the notes before the first round."""
    with Sandbox(package, clients=2, workers=0, random_seed=1, rounds=1, state_dir=state_dir) as box:
        ended = box.run()
        assert ended["state"] == "finished", ended["reason"]
        return float(box.weights()["w"][0]), box.model()["metrics"]["test/score"]["mean"], box.notes


def test_each_client_of_a_sandbox_trains_on_the_file_with_its_number(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDN_DATA_PATH", "data/{n}.npz")
    assert _trained(package) == (2.0, 7.0, ())


def test_a_sandbox_says_that_all_its_clients_have_one_file(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_DATA_PATH", "data/2.npz")
    model, score, [note] = _trained(package)
    assert (model, score) == (3.0, 3.0)
    assert note == "all clients have one FEDN_DATA_PATH, data/2.npz; for one each: FEDN_DATA_PATH=/…/clients/{n}/…"


def test_without_the_variable_clients_have_no_data_of_their_own(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDN_DATA_PATH", raising=False)
    assert _trained(package) == (0.0, -1.0, ())


def test_a_url_is_no_path_and_a_sandbox_says_so(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_DATA_PATH", "s3://bucket/{n}.npz")
    model, score, [note] = _trained(package)
    assert (model, score) == (0.0, -1.0)
    assert note.startswith("client.data is None, as FEDN_DATA_PATH is a URL, s3://bucket/{n}.npz")


def test_a_file_that_is_not_there_fails_its_client_only(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDN_DATA_PATH", "data/{n}.npz")
    with Sandbox(package, clients=3, workers=0, rounds=1) as box:
        box.run()
        assert float(box.weights()["w"][0]) == 2.0
        [failed] = box.records.find(tables.EVENTS, {"name": "update.failed"})
    assert (failed["client"], "3.npz" in failed["data"]["reason"]) == ("client3", True)


def test_a_folder_is_not_resumed_with_other_data(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDN_DATA_PATH", "data/{n}.npz")
    _trained(package, tmp_path / "state")
    monkeypatch.delenv("FEDN_DATA_PATH")
    with pytest.raises(ConfigError, match=r"FEDN_DATA_PATH differs: .*data/\{n\}.npz there, unset here"):
        _trained(package, tmp_path / "state")


def test_a_check_uses_the_first_clients_file(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_DATA_PATH", "data/{n}.npz")
    assert client_here("check").data == tmp_path / "data" / "1.npz"
    assert client_here("check", data=Path("other/{n}")).data == tmp_path / "other" / "1"


def test_the_template_learns_from_the_file_that_the_variable_names(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(1).normal(size=(50, 6))  # the made-up points have 4 columns
    for name in ("1", "2", "evaluator"):
        np.savez(tmp_path / "data" / f"{name}.npz", x=x, y=(x[:, 0] > 0).astype(int))
    monkeypatch.setenv("FEDN_DATA_PATH", f"{tmp_path}/data/{{n}}.npz")
    with Sandbox(templates()["numpy"], clients=2, workers=0, rounds=2) as box:
        box.run()
        assert box.weights()["w"].shape == (6,)
