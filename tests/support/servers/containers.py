"""The same servers from the images that deploy/compose pins, run by testcontainers on a Docker engine of this machine.

Each keeps its container, and with it address and data, when it is stopped or killed; `remove` takes that away.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Self

from dotenv import dotenv_values
from testcontainers.core.container import DockerContainer

from fedmq.brokers.rabbitmq.probe import probe
from fedmq.errors import FedMQError
from fedmq.records.mongo import MongoRecords
from support.servers.mongo import MongoServer
from support.servers.rabbitmq import OPEN_FILES, RabbitmqServer
from support.servers.seaweedfs import S3Server
from support.waiting import until

PINNED = Path(__file__).parents[3] / "deploy" / "compose" / ".env.example"
STOP_SECONDS = 30


def missing() -> str | None:
    """Why no container can be started on this machine, or None if one can."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        return "no Docker engine answers: start one, or leave FEDMQ_TEST_SERVERS out"
    return None


def image(variable: str) -> str:
    """The image that compose takes: the variable's, else the one pinned in `.env.example`."""
    name = os.environ.get(variable) or dotenv_values(PINNED)[variable]
    assert name is not None
    return name


class _Box:
    """One container, whose ports of this machine stay over restarts. Made when it is first started."""

    def __init__(self, variable: str, ports: dict[int, int], command: str = "", **variables: str) -> None:
        self._variable = variable
        self._ports = ports
        self._command = command
        self._variables = variables
        self._container: DockerContainer | None = None
        self.is_running = False

    def start(self) -> None:
        if self._container is None:
            # Compose asks for as many and fails where this machine allows less; for tests less will do.
            count = min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
            files = {"name": "nofile", "soft": count, "hard": count}
            made = self._container = DockerContainer(image(self._variable), env=self._variables, ulimits=[files])
            for inside, outside in self._ports.items():
                made.with_bind_ports(inside, outside)
            if self._command:
                made.with_command(self._command)
            try:
                made.start()
            except BaseException:
                self.remove()
                raise
        else:
            self._container.get_wrapped_container().start()
        self.is_running = True

    def stop(self) -> None:
        if self._container is not None and self.is_running:
            self._container.get_wrapped_container().stop(timeout=STOP_SECONDS)
        self.is_running = False

    def kill(self) -> None:
        if self._container is not None and self.is_running:
            self._container.get_wrapped_container().kill()
        self.is_running = False

    def remove(self) -> None:
        if self._container is not None:
            self._container.stop()
            self._container = None
        self.is_running = False

    @contextmanager
    def halted(self) -> Iterator[None]:
        assert self._container is not None
        box = self._container.get_wrapped_container()
        box.pause()
        try:
            yield
        finally:
            box.unpause()

    def run(self, *words: str) -> str:
        """What a command prints inside."""
        assert self._container is not None
        done = self._container.exec(list(words))
        assert done.exit_code == 0, done.output
        return done.output.decode()

    def last_words(self) -> str:
        return (
            "" if self._container is None else b"\n".join(self._container.get_logs()).decode(errors="replace")[-2000:]
        )


class _Contained:
    """A server in a box; mixed in before the class whose address and account it takes."""

    _box: _Box

    def start(self) -> Self:
        """Returns when it answers, which it does a while after its port is open. Running already: nothing happens."""
        if not self._box.is_running:
            self._box.start()
            try:
                until(self._is_there, f"{type(self).__name__} answers")
            except TimeoutError as error:
                words = self._box.last_words()
                self._box.remove()
                raise RuntimeError(f"{type(self).__name__} did not start: {words}") from error
        return self

    def _is_there(self) -> bool:
        with suppress(FedMQError, OSError):
            return self._answers()
        return False

    def _answers(self) -> bool:
        raise NotImplementedError

    def stop(self) -> None:
        self._box.stop()

    def kill(self) -> None:
        self._box.kill()

    def halted(self) -> AbstractContextManager[None]:
        return self._box.halted()

    def remove(self) -> None:
        self._box.remove()


class RabbitmqContainer(_Contained, RabbitmqServer):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._box = _Box(
            "RABBITMQ_IMAGE",
            {5672: self.port, 15672: self.management_port},
            RABBITMQ_DEFAULT_USER="guest",
            RABBITMQ_DEFAULT_PASS="guest",
        )

    def control(self, *words: str) -> str:
        return self._box.run("rabbitmqctl", *words)

    def _answers(self) -> bool:
        probe(self.url, None)
        return bool(self.manage("GET", "overview"))


class S3Container(_Contained, S3Server):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._box = _Box(
            "MINIO_IMAGE",
            {9000: self.port},
            "server /data --console-address :9001",
            MINIO_ROOT_USER=self.access_key,
            MINIO_ROOT_PASSWORD=self.secret_key,
        )

    def _answers(self) -> bool:
        return S3Server._answers(self)


class MongoContainer(_Contained, MongoServer):
    """It is started without an account, so it asks for none."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._box = _Box("MONGO_IMAGE", {27017: self.port})

    def _answers(self) -> bool:
        records = MongoRecords(self.host, self.port, "asked", connections=1)
        try:
            return bool(records.version())
        finally:
            records.close()
