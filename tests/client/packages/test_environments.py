"""The environment of a package's commands: made once, taken from the cache, made anew after an interruption."""

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.packages.commanding import job, run
from fedmq import tensors
from fedmq_client import Client
from fedmq_client.job.job import Result
from fedmq_client.job.load_trainer import build
from fedmq_client.packages import environments
from fedmq_client.packages.commands import prepare
from fedmq_client.packages.package import PackageError, load

pytestmark = pytest.mark.real  # makes environments, which takes seconds


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache for all tests of this file, as an environment takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "fedn.yaml").write_text("python_env: env.yaml\nentry_points: {validate: python show.py}\n")
    (tmp_path / "show.py").write_text(
        "import json, sys\njson.dump({'prefix': sys.prefix, 'path': sys.path}, open(sys.argv[2], 'w'))\n"
    )
    (tmp_path / "env.yaml").write_text("name: empty\ndependencies: []\n")
    return tmp_path


def _validate(package: Path, client: Client) -> Result:
    return run(job(package, "validate", client, model=tensors.encode({})))[0]


def test_commands_run_in_it_unless_they_shall_not(kept: Path, package: Path) -> None:
    prepare(load(package), None, True)
    (made,) = (kept / "fedmq" / "envs").glob("*/complete")
    assert _validate(package, Client("c")).metrics["prefix"] == str(made.parent)
    assert _validate(package, Client("c", python_env=False)).metrics["prefix"] == sys.prefix


def test_it_is_made_once_and_made_anew_if_that_was_interrupted(kept: Path, package: Path) -> None:
    folder = environments.prepare(package / "env.yaml").parent
    (folder / "mark").touch()
    (package / "env.yaml").write_text("# another text\nname: other\ndependencies: []\n")
    assert environments.prepare(package / "env.yaml").parent == folder
    assert (folder / "mark").exists()
    (folder / environments.COMPLETE).unlink()
    environments.prepare(package / "env.yaml")
    assert not (folder / "mark").exists()


def test_what_it_depends_on_is_installed_and_makes_another(kept: Path, package: Path) -> None:
    (package / "env.yaml").write_text(f"dependencies: ['{_wheel(package)}']\n")
    environments.prepare(package / "env.yaml")
    (package / "show.py").write_text(
        "import json, sys\nimport only_here\njson.dump({'n': only_here.N}, open(sys.argv[2], 'w'))\n"
    )
    assert _validate(package, Client("c")).metrics == {"n": 5}


def _wheel(folder: Path) -> Path:
    """The smallest distribution: one module."""
    path = folder / "only_here-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("only_here.py", "N = 5\n")
        archive.writestr("only_here-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: only_here\nVersion: 1.0\n")
        archive.writestr(
            "only_here-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("only_here-1.0.dist-info/RECORD", "")
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dependencies: [", "is not valid YAML"),
        ("- numpy", "must hold a list under `dependencies`"),
        ("dependencies: numpy", "dependencies must be a list of requirements"),
        ("dependencies: [--no-index, there-is-no-such-package]", "can't be installed:\n.*(\n.*)*no-such-package"),
    ],
)
def test_a_description_that_can_not_be_followed_is_refused(kept: Path, package: Path, text: str, words: str) -> None:
    (package / "env.yaml").write_text(text)
    with pytest.raises(PackageError, match=words):
        environments.prepare(package / "env.yaml")


def test_another_python_than_asked_for_is_told(kept: Path, package: Path, caplog: pytest.LogCaptureFixture) -> None:
    (package / "env.yaml").write_text("python: '2.7'\ndependencies: []\n")
    environments.prepare(package / "env.yaml")
    assert "asks for Python 2.7; this is 3." in caplog.text


def test_a_trainer_is_refused_without_what_the_description_names(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "fedn.yaml").write_text("trainer: t.py\npython_env: env.yaml\nentry_points: {train: x}")
    (tmp_path / "t.py").write_text("def train(weights, task): ...")
    (tmp_path / "env.yaml").write_text("dependencies: [numpy>=1, --no-index, 'no_such_package>=0.7', 'neither[all]']")
    remedy = f"{sys.executable} -m pip install 'no_such_package>=0.7' 'neither[all]'"
    with pytest.raises(PackageError) as refused:
        prepare(load(tmp_path), None, True)
    assert refused.value.reason.endswith(f"a trainer runs in FedMQ's own Python, which lacks some of it: {remedy}")
    with pytest.raises(PackageError, match="no_such_package"):
        build(load(tmp_path), Client("c"))
    prepare(load(tmp_path), None, False)
    prepare(load(tmp_path), "commands", False)
    (tmp_path / "env.yaml").write_text("dependencies: [numpy>=1, PyYAML]")
    prepare(load(tmp_path), None, True)
    (tmp_path / "env.yaml").write_text("not a description")
    with pytest.raises(PackageError, match="must hold a list"):
        prepare(load(tmp_path), None, True)
