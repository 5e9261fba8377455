"""A distribution that FedMQ does not know registers a framework by an entry point."""

import sys
import tomllib
from pathlib import Path

import pytest

import fedmq_client
from fedmq.errors import ConfigError
from fedmq_cli.package_trial import make_package
from fedmq_client.frameworks import BUILT_IN, extra_of, registered

PYPROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())


@pytest.fixture
def abacus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution with a framework `abacus`, and one that would like to be `torch`."""
    site = tmp_path / "site"
    module, metadata = site / "fedmq_abacus", site / "fedmq_abacus-1.0.dist-info"
    (module / "template").mkdir(parents=True)
    metadata.mkdir()
    (module / "__init__.py").write_text("class AbacusTrainer: ...\n")
    (module / "template" / "fedn.yaml").write_text("trainer: trainer.py:Mine\n")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fedmq-abacus\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[fedmq.frameworks]\nabacus = fedmq_abacus:AbacusTrainer\ntorch = fedmq_abacus:AbacusTrainer\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "fedmq_abacus", raising=False)
    return module


def test_a_registered_trainer_is_imported_from_fedmq_client(abacus: Path) -> None:
    assert fedmq_client.AbacusTrainer.__module__ == "fedmq_abacus"


def test_a_package_is_made_from_the_template_of_a_registered_framework(abacus: Path, tmp_path: Path) -> None:
    package = make_package(tmp_path / "mine", "abacus")
    assert (package / "fedn.yaml").read_text() == "trainer: trainer.py:Mine\n"


def test_a_name_of_fedmqs_own_is_not_taken_by_another(abacus: Path) -> None:
    assert registered()["torch"].attr == "TorchTrainer"


def test_a_framework_that_nobody_registers_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="unknown framework 'abacus': there are command, keras, numpy, sklearn, torch"
    ):
        make_package(tmp_path / "mine", "abacus")


def test_each_of_our_frameworks_is_installed_by_an_extra() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert all(extra_of(entry.name) in extras for entry in BUILT_IN)
    assert extra_of("tensorflow") == "tensorflow"
    assert extra_of("numpy") is None
