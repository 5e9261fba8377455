"""What is shipped, and that each role needs no more than its own extra."""

import json
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from support.installs import brought_by

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "fedmq",
    "fedmq_schemas",
    "fedmq_reducer",
    "fedmq_combiner",
    "fedmq_client",
    "fedmq_dashboard",
    "fedmq_sdk",
    "fedmq_sandbox",
    "fedmq_cli",
}

# Run in an interpreter of its own: refuse every distribution that the extra does not bring, then
# import each module of the package. The modules of `frameworks`, `warm_keras` and `fedmq_client.torch` import their
# framework; they are imported when a trainer or a model file of that framework is named.
IMPORT_ALL = """
import importlib, json, pkgutil, sys

package, refused = sys.argv[1], set(json.loads(sys.argv[2]))
assert not refused & set(sys.modules), refused & set(sys.modules)


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r} in this install", name=name)
        return None


sys.meta_path.insert(0, Refuse())
root = importlib.import_module(package)
for module in pkgutil.walk_packages(getattr(root, "__path__", ()), package + "."):
    if not {"__main__", "frameworks", "warm_keras", "torch"} & set(module.name.split(".")):
        importlib.import_module(module.name)
"""


def import_all(package: str, extra: str) -> subprocess.CompletedProcess[str]:
    """Import every module of `package` as if only `fedmq[extra]` were installed."""
    allowed = brought_by(extra)
    refused = sorted(
        module
        for module, owners in packages_distributions().items()
        if not allowed & {canonicalize_name(owner) for owner in owners}
        # what pip and the interpreter's own start-up files need is in every install
        and not {"pip", "setuptools"} & set(owners)
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", IMPORT_ALL, package, json.dumps(refused)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_exactly_the_expected_packages(wheel: zipfile.ZipFile) -> None:
    top = {name.partition("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES


def test_every_package_in_the_wheel_says_what_it_is_and_is_typed(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
        assert wheel.read(f"{package}/__init__.py").startswith(b'"""')


def test_the_wheel_brings_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = (n for n in wheel.namelist() if n.endswith(".dist-info/entry_points.txt"))
    assert b"fedmq = fedmq_cli.app:main" in wheel.read(entry_points)
    (licence,) = (n for n in wheel.namelist() if n.endswith("/LICENSE"))
    assert b"Apache License" in wheel.read(licence)


@pytest.mark.parametrize(
    ("package", "extra"),
    [
        ("fedmq_schemas", ""),
        ("fedmq_client", ""),
        ("fedmq_cli", ""),
        ("fedmq", "server"),
        ("fedmq_reducer", "server"),
        ("fedmq_combiner", "server"),
        ("fedmq_dashboard", "dashboard"),
    ],
)
def test_a_role_imports_with_its_own_extra_only(package: str, extra: str) -> None:
    done = import_all(package, extra)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["pymongo", "minio", "fastapi", "dash", "tensorflow"])
def test_the_base_install_lacks_what_only_servers_and_frameworks_need(module: str) -> None:
    done = import_all(module, "")
    assert done.returncode == 1
    assert f"No module named '{module}' in this install" in done.stderr
