"""A compose project for tests: real containers, brought up from deploy/compose by whichever Compose is installed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
FILES = ("docker-compose", "reducer", "combiner", "mnist-clients", "stack")
IMAGES = ("fedmq-combiner", "fedmq-client", "fedmq-reducer", "fedmq-dashboard", "fedmq-example-mnist")


def command() -> list[str] | None:
    """Compose 2, else Compose 1, else None."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) and subprocess.run([*words, "version"], capture_output=True).returncode == 0:
            return words
    return None


def missing() -> str | None:
    """Why no stack can be brought up on this machine, or None if it can."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        return "no Docker engine answers: start one"
    if command() is None:
        return "Compose is not installed"
    for image in IMAGES:
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode != 0:
            return f"there is no image {image}: `make up ARGS=--build` makes all of them"
    return None


class Project:
    """One compose project. `settings` are the variables that a `.env` would have."""

    def __init__(self, name: str, settings: Mapping[str, str], files: tuple[str, ...] = FILES) -> None:
        self.name = name
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("FEDN_")}
        optional = {key: os.environ[key] for key in ("FEDN_MONGO_USER", "FEDN_MONGO_PASSWORD") if key in os.environ}
        self.environment = inherited | optional | {"COMPOSE_PROJECT_NAME": name, **settings}
        self.words = [*(command() or []), *(word for file in files for word in ("-f", f"{file}.yaml"))]

    def compose(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self.words, *arguments], cwd=FOLDER, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def up(self, **scale: int) -> None:
        scales = [f"--scale={service}={count}" for service, count in scale.items()]
        self.compose("up", "--detach", "--no-build", "--no-recreate", *scales)

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "15")

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--all", "--quiet", service).split()


def gateway() -> str:
    """The address of this machine that containers of every network reach: their default route."""
    program = "print(next(line.split()[2] for line in open('/proc/net/route') if line.split()[1] == '00000000'))"
    words = ["docker", "run", "--rm", "--entrypoint", "python", "fedmq-client", "-c", program]
    route = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(route)))


def fetch(
    url: str, *, body: Any = None, account: str | None = None, accept: str = "application/json"
) -> tuple[int, str]:
    """Status and text; POST where there is a body. `account`: user:password."""
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), {"Accept": accept})
    request.add_header("Content-Type", "application/json")
    if account is not None:
        request.add_header("Authorization", f"Basic {base64.b64encode(account.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def until(what: Callable[[], bool], words: str, seconds: float = 120.0) -> None:
    """Returns once `what()` holds. Fails when time is up; no answer yet counts as not holding."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if what():
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.5)
    raise AssertionError(f"after {seconds:g} s still not so: {words}")
