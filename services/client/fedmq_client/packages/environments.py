"""Makes the Python environment of a package's commands, as its `python_env.yaml` describes it.

    name: mnist                     # for people
    build_dependencies: [pip, wheel]
    dependencies: [fedn, torch==2.3.1]

It is made once, for this interpreter's version, and kept in the user's cache under the hash of its contents.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import shlex
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from fedmq.process.lock import wait_for_lock
from fedmq_client.packages.package import PackageError

COMPLETE = "complete"
"""A file that is written last. An environment without it was interrupted and is made anew."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""The name at the beginning of a requirement. Options of pip, such as an index, have none."""

log = logging.getLogger("fedmq.client")


def cache() -> Path:
    """Returns the user's cache folder: `$XDG_CACHE_HOME/fedmq`, or `~/.cache/fedmq`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedmq"


def prepare(description: Path) -> Path:
    """Returns the folder of the environment's executables. Makes the environment if it does not exist.

    May be called by several processes at once: one makes it and the others wait. Raises PackageError if the description
    holds no list of dependencies, or if they can't be installed (with the end of pip's output).
    """
    steps = _dependencies(description)
    key = hashlib.sha256(json.dumps([platform.python_version(), platform.machine(), steps]).encode()).hexdigest()[:16]
    folder = cache() / "envs" / key
    with locked(folder.with_suffix(".lock")):
        if not (folder / COMPLETE).exists():
            log.warning("making the Python environment of %s in %s, once", description, folder)
            venv.create(folder, clear=True, with_pip=True, symlinks=os.name != "nt")
            for step in filter(None, steps):
                _install(description, folder, step)
            (folder / COMPLETE).touch()
    return executables(folder)


def check_installed(description: Path) -> None:
    """Checks that FedMQ's own Python, which runs trainers, has the dependencies. Raises PackageError that names others.

    Versions are not compared.
    """
    missing = [
        each for each in _dependencies(description)[1] if (name := NAME.match(each)) and not _is_installed(name[0])
    ]
    if missing:
        raise PackageError(
            f"{description} is for commands: a trainer runs in FedMQ's own Python, which lacks some of it: "
            f"{shlex.join([sys.executable, '-m', 'pip', 'install', *missing])}"
        )


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def executables(folder: Path) -> Path:
    """Returns the folder of an environment's commands."""
    return folder / ("Scripts" if os.name == "nt" else "bin")


@contextmanager
def locked(path: Path, mode: str = "a") -> Iterator[None]:
    """Lets one process at a time pass. The lock ends with its process. With `mode` `r` the file must exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as file:
        wait_for_lock(file)
        yield


def _dependencies(description: Path) -> list[list[str]]:
    """Returns the build dependencies and the dependencies."""
    try:
        found = yaml.safe_load(description.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PackageError(f"{description} is not valid YAML: {error}") from error
    if not isinstance(found, dict):
        raise PackageError(f"{description} must hold a list under `dependencies`")
    wanted = found.get("python")
    if wanted is not None and not platform.python_version().startswith(str(wanted)):
        log.warning("%s asks for Python %s; this is %s", description, wanted, platform.python_version())
    return [_list(description, found, key) for key in ("build_dependencies", "dependencies")]


def _list(description: Path, found: dict[str, Any], key: str) -> list[str]:
    value = found.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise PackageError(f"{description}: {key} must be a list of requirements, such as numpy or torch==2.3.1")
    return value


def _install(description: Path, folder: Path, requirements: list[str]) -> None:
    python = executables(folder) / "python"
    # In a file, as it may hold options, such as an index of wheels, that pip does not accept as arguments.
    listed = folder / "requirements.txt"
    listed.write_text("\n".join(requirements) + "\n", encoding="utf-8")
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "-r", str(listed)]
    from fedmq.process.settings import without_secrets  # not needed by a trainer, nor by what may run beside it

    environment = without_secrets(os.environ)
    for name in ("PYTHONPATH", "PYTHONHOME"):
        environment.pop(name, None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=description.parent, check=False)
    if done.returncode:
        last_lines = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise PackageError(f"{description}: its dependencies can't be installed:\n{last_lines}")
