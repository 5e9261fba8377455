"""The release before this one, as its users have it: from this repository's history, or installed on its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import distributions
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[2]
BEFORE = "a3277740be1b"
"""The commit of 0.2.0."""


def missing() -> str | None:
    """Returns why the code of the release before this one can't be read here, or None if it can."""
    if shutil.which("git") is None:
        return "git is not installed, so release 0.2.0 can't be read"
    found = subprocess.run(
        ["git", "cat-file", "-e", f"{BEFORE}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    if found.returncode == 0:
        return None
    return f"commit {BEFORE}, release 0.2.0, is not in this checkout: git fetch --unshallow"


def unpack(folder: Path) -> Path:
    """Returns a new folder within `folder` with the files of the release before this one."""
    archive = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=True).stdout
    tree = folder / "release"
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(tree, filter="data")
    return tree


def python_path(tree: Path) -> str:
    """Returns the value of PYTHONPATH with which Python imports FedMQ from these files, and nothing from elsewhere."""
    build = tomllib.loads((tree / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    return ":".join(str((tree / package).parent) for package in build["targets"]["wheel"]["packages"])


def install(tree: Path, venv: Path) -> Path:
    """Installs these files into a new virtual environment, with what servers need. Returns its command `fedmq`.

    The libraries have the versions of this environment, as those of the servers that stand in for others suit no other.
    """
    versions = venv.with_name("versions.txt")
    known = {(each.name, each.version) for each in distributions() if each.name != "fedmq"}
    versions.write_text("".join(f"{name}=={version}\n" for name, version in sorted(known)))
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    words = ("install", "--quiet", "--quiet", "--constraint", versions, f"{tree}[server]")
    subprocess.run([venv / "bin" / "pip", *words], check=True)
    return venv / "bin" / "fedmq"
