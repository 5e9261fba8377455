"""Real containers for tests: commands typed as docs/how-to has them, in a checkout, with a project's settings."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from support import waiting

ROOT = Path(__file__).parents[2]
COMPOSE = "deploy/compose"
ROLES = ("fedmq-combiner", "fedmq-client", "fedmq-reducer", "fedmq-dashboard")
EXAMPLES = ("mnist", "numpy_regression", "regression_shell", "digits_sklearn", "fedn_package")
# Of FEDN_* these alone are taken from the tester's own environment: a MongoDB without accounts has no user and no password,
# and a stand-in may take few connections.
KEPT = ("FEDN_MONGO_USER", "FEDN_MONGO_PASSWORD", "FEDN_MONGO_CONNECTIONS")


def run(*words: str, **options: str | Path) -> str:
    """What a program prints. Fails with what it says if it fails."""
    done = subprocess.run(words, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return str(done.stdout)


def compose() -> str | None:
    """`docker compose` where it is there, else `docker-compose`, else None."""
    for words in ("docker compose", "docker-compose"):
        version = [*words.split(), "version"]
        if shutil.which(version[0]) and subprocess.run(version, capture_output=True).returncode == 0:
            return words
    return None


def needed(*images: str) -> None:
    """Skips unless container tests are asked for, with COMPOSE_TESTS=1; then whatever lacks is a failure."""
    if not os.environ.get("COMPOSE_TESTS"):
        pytest.skip("takes minutes, a Docker engine and the promised ports: set COMPOSE_TESTS=1")
    if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
        pytest.fail("container tests share ports and cannot run in several processes: run `pytest tests/compose`")
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        pytest.fail("no Docker engine answers: start one")
    if compose() is None:
        pytest.fail("Compose is not installed")
    for image in (*ROLES, *images):
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode != 0:
            pytest.fail(f"there is no image {image}: tests/compose/build makes all of them")


def checkout(folder: Path) -> Path:
    """`folder`, with what git would give a reader: the files that it tracks, and no others."""
    for name in run("git", "ls-files", "-z", cwd=ROOT).split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


class Project:
    """One compose project on a network of its own. `settings` are the variables that a `.env` would have."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str]) -> None:
        self.name = name
        self.folder = folder
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("FEDN_") or key in KEPT}
        named = {"COMPOSE_PROJECT_NAME": name, "FEDN_NETWORK": name, "FEDN_PRESENCE": "3"}
        self.environment = {**inherited, **named, **settings}

    def typed(self, command: str, where: str = COMPOSE, *, instead: Mapping[str, str] | None = None) -> str:
        """What a command of docs/how-to prints, typed in folder `where` of the checkout; it must succeed.

        `instead`: what stands for the names and addresses of the text. Compose 1 is spelled `docker-compose`.
        """
        for old, new in (instead or {}).items():
            assert old in command
            command = command.replace(old, new)
        command = re.sub(r"\bdocker compose\b", compose() or "", command)
        return run("bash", "-c", command, cwd=self.folder / where, env=self.environment)  # type: ignore[arg-type]

    def secret(self, name: str) -> str:
        """Returns a secret that the start-up step has made or was given."""
        found: dict[str, str] = json.loads((self.folder / COMPOSE / "secrets" / "passwords.json").read_text())
        return found[name]

    def containers(self, service: str) -> list[str]:
        """Of the service, ended ones too."""
        label = f"label=com.docker.compose.service={service}"
        return run("docker", "ps", "--all", "--quiet", "--filter", self._label, "--filter", label).split()

    def logs(self, service: str) -> str:
        words = [["docker", "logs", each] for each in self.containers(service)]
        done = [subprocess.run(each, capture_output=True, text=True) for each in words]
        return "".join(each.stdout + each.stderr for each in done)

    def remove(self) -> None:
        """All that the project made, whichever files and folder made it."""
        for words, listed in (
            (("rm", "--force"), ("ps", "--all", "--quiet")),
            (("volume", "rm"), ("volume", "ls", "--quiet")),
            (("network", "rm"), ("network", "ls", "--quiet")),
        ):
            found = run("docker", *listed, "--filter", self._label).split()
            if found:
                run("docker", *words, *found)

    @property
    def _label(self) -> str:
        return f"label=com.docker.compose.project={self.name}"


def gateway() -> str:
    """The address of this machine that containers of every network reach: their default route."""
    program = "print(next(line.split()[2] for line in open('/proc/net/route') if line.split()[1] == '00000000'))"
    route = run("docker", "run", "--rm", "--entrypoint", "python", "fedmq-client", "-c", program).strip()
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(route)))


def until(condition: Callable[[], bool], what: str, seconds: float = waiting.SECONDS) -> None:
    """Returns once `condition` holds. Fails when time is up; a service that does not answer yet counts as not holding."""

    def holds() -> bool:
        with suppress(OSError, ValueError):
            return condition()
        return False

    waiting.until(holds, what, seconds, every=0.5)
