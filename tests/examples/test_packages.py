"""The examples for other frameworks, for commands and for other languages: each learns."""

import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from examples.packages import Rounds
from fedmq import tensors
from fedmq_client import Client
from fedmq_client.packages import environments
from fedmq_client.packages.package import load

pytestmark = pytest.mark.real  # trains with frameworks and runs commands

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def _copied(name: str, folder: Path) -> Path:
    """An example of commands, which write beside themselves."""
    shutil.copytree(
        EXAMPLES / name,
        folder / name,
        ignore=shutil.ignore_patterns("seed.npz", "seed.safetensors", "clients", "__pycache__"),
    )
    return folder / name / "client"


def test_scikit_learns_digits_are_told_apart_also_with_skewed_labels() -> None:
    for dirichlet, least in ((None, 0.85), (0.1, 0.5)):
        rounds = Rounds(EXAMPLES / "digits_sklearn" / "client", 5)
        rounds.sites = [replace(site, dirichlet=dirichlet) for site in rounds.sites]
        model = rounds.init()
        assert rounds.score(model)["accuracy"] < 0.2
        for _ in range(5):
            model = rounds.round(model)
        assert rounds.score(model)["accuracy"] > least


def test_mnist_learns_in_pytorch() -> None:
    rounds = Rounds(EXAMPLES / "mnist" / "client_torch", 5)
    del rounds.sites[2:]
    model = rounds.init()
    assert sum(value.size for value in tensors.decode(model)[0].values()) == 1_199_882
    assert rounds.score(model)["accuracy"] < 0.25
    assert rounds.score(rounds.round(model))["accuracy"] > 0.85


def test_mnist_learns_by_commands_and_is_scored_without_fedmq(tmp_path: Path) -> None:
    package = _copied("mnist", tmp_path)
    rounds = Rounds(package, 2, lambda n: Client(f"c{n}", ordinal=n, count=2, form="commands"))
    model = rounds.round(rounds.init())
    path = tmp_path / "model.safetensors"
    path.write_bytes(model)
    assert runpy.run_path(str(EXAMPLES / "mnist" / "evaluate.py"))["evaluate"](path)["accuracy"] > 0.88


def test_a_shell_finds_what_numpy_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = EXAMPLES / "numpy_regression" / "data" / "diabetes.csv"
    package = _copied("regression_shell", tmp_path)
    rounds = Rounds(package, 3, lambda n: Client(f"c{n}", data=data, ordinal=n, count=3))
    model = rounds.init()
    for _ in range(3):
        model = rounds.round(model)
    # The same three steps on all patients at once, in numpy.
    numpy = Rounds(EXAMPLES / "numpy_regression" / "client", 1)
    expected = numpy.init()
    for _ in range(3):
        expected = numpy.round(expected)
    found, wanted = (tensors.decode(blob)[0] for blob in (model, expected))
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9)
    monkeypatch.setenv("FEDN_DATA_PATH", str(data))
    assert rounds.score(model)["mse"] == pytest.approx(numpy.score(expected)["mse"])


def test_the_shell_writes_every_double_exactly(tmp_path: Path) -> None:
    package = _copied("regression_shell", tmp_path)
    values = [1.0, -2.5, 1 / 3, 1e300, -1e-300, np.nextafter(1, 2), 123456789.123, 0.0]
    lines = "\\n".join(f"{value:.17g}" for value in values)
    (package / "fedn.yaml").write_text("format: safetensors\nentry_points: {build: sh make.sh, train: sh train.sh}\n")
    (package / "make.sh").write_text(f". ./tensors.sh\nprintf '{lines}\\n' | save ../seed.safetensors\n")
    weights = tensors.decode(Rounds(package, 1).init())[0]
    assert [*weights["coefficients"], *weights["intercept"]] == values


def test_a_package_of_fedns_shape_learns_without_fedn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = _copied("fedn_package", tmp_path)
    monkeypatch.setenv("FEDN_DATA_PATH", f"{package}/data/clients/{{n}}/digits.npz")
    rounds = Rounds(package, 3, lambda n: Client(f"c{n}", ordinal=n, count=3, python_env=False), epochs=2)
    _learns(rounds, package)
    model = rounds.init()
    first, second = (rounds.run("train", site, model) for site in rounds.sites[:2])
    assert first.update != second.update and first.notes == ()
    monkeypatch.delenv("FEDN_DATA_PATH")
    for site in rounds.sites:
        alike = rounds.run("train", replace(site, python_env=False, random_seed=2), model)
        assert alike.update == first.update and "train every client on data/clients/1" in alike.notes[0]


@pytest.mark.timeout(600)
def test_a_package_of_fedns_shape_learns_with_fedn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(ROOT / ".cache"))
    package = _copied("fedn_package", tmp_path)
    description = load(package).python_env
    assert description is not None
    installed = environments.prepare(description).parent / "lib"
    assert list(installed.glob("python*/site-packages/fedn-0.33.0.dist-info"))
    monkeypatch.setenv("FEDN_DATA_PATH", f"{package}/data/clients/{{n}}/digits.npz")
    _learns(Rounds(package, 2, epochs=2), package)


def _learns(rounds: Rounds, package: Path) -> None:
    model = rounds.init()
    first = rounds.run("validate", rounds.sites[0], model)
    assert first.examples is None
    for _ in range(2):
        model = rounds.round(model)
    after = rounds.run("validate", rounds.sites[0], model).metrics
    assert first.metrics["test_accuracy"] < 0.3
    assert after["test_accuracy"] > 0.8
    assert (package / "data" / "clients" / "5" / "digits.npz").exists()
