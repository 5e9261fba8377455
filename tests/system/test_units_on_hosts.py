"""What the units of systemd start, with their files of settings and on real servers: ready, at work, and ended in order."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.servers.ports import free_ports
from support.systemd import UNITS, Unit, read_file
from system.deployment import Deployment, Servers
from system.node import COMMAND, Node

pytestmark = pytest.mark.system
STARTED = [
    ("reducer", ""),
    ("dashboard", ""),
    ("combiner", "c1"),
    ("client", "hospital-1"),
]
WITHOUT = {"FEDN_MONGO_USER", "FEDN_MONGO_PASSWORD"}
"""The stand-in for MongoDB knows no accounts."""


class Host(Deployment):
    """A host whose folder `etc` stands for `/etc/fedmq`, and whose folder `lib` for `/var/lib`."""

    def unit(self, role: str, instance: str) -> Unit:
        return Unit(UNITS / f"fedmq-{role}{'@' if instance else ''}.service", instance, str(self.folder / "lib"))

    def write_settings(self, role: str, instance: str, api: int) -> Path:
        """Writes the example of a role, with the addresses and names of this host in place of those of the example."""
        health, dashboard = free_ports(2)
        name = f"FEDN_{role.upper()}_NAME"
        ours = self.environment("") | {name: instance, "FEDN_DATA_PATH": str(self.folder)}
        ours |= {"FEDN_HEALTH_PORT": str(health), "FEDN_REDUCER_PORT": str(api), "FEDN_DASHBOARD_PORT": str(dashboard)}
        example = {key: value for key, value in read_file(UNITS / f"{role}.env").items() if key not in WITHOUT}
        path = self.folder / "etc" / f"{role}{'-' if instance else ''}{instance}.env"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{key}={shlex.quote(ours.get(key, value))}\n" for key, value in example.items()))
        path.chmod(0o600)
        return path

    def start_unit(self, role: str, instance: str, api: int) -> Node:
        """Starts what the unit starts, in an environment that holds nothing else but what systemd sets."""
        unit, file = self.unit(role, instance), self.write_settings(role, instance, api)
        folder = Path(unit.value("WorkingDirectory"))
        folder.mkdir(mode=0o700, parents=True)
        environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        environment |= {"HOME": str(folder)} | unit.environment({unit.value("EnvironmentFile"): file})
        assert environment | _sourced(file) == environment  # `fedmq-as` reads the same from the file
        *words, role = unit.value("ExecStart").replace("/opt/fedmq/bin/fedmq", str(COMMAND)).split()
        node = Node(folder.name, role, environment, folder / "log", None, int(environment["FEDN_HEALTH_PORT"]), api)
        node.program = (*words,)
        self.nodes[folder.name] = node
        node.start()
        return node

    def await_ready(self, node: Node) -> None:
        self.until(lambda: is_ready(node), f"ready {node.name}")


def _sourced(file: Path) -> dict[str, str]:
    """Returns the variables that a shell takes from a file of settings."""
    words: list[str | Path] = ["sh", "-c", 'set -a; . "$0"; env -0', file]
    done = subprocess.run(words, env={}, capture_output=True, text=True, check=True)
    pairs = dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)
    return {name: value for name, value in pairs.items() if name in read_file(file)}


def is_ready(node: Node) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{node.health_port}/ready", timeout=5) as answer:
        return bool(json.load(answer)["ready"])
    return False


@pytest.fixture
def host(servers: Servers, tmp_path: Path) -> Iterator[Host]:
    servers.start()
    host = Host(tmp_path / "host", servers, "units")
    with host:
        yield host


def test_the_units_start_an_alliance_that_trains_and_end_in_their_time_while_it_does(host: Host) -> None:
    [api] = free_ports(1)
    for role, instance in STARTED:
        host.start_unit(role, instance, api)
    for node in host.nodes.values():
        host.await_ready(node)
    host.seed()
    host.start_session("units", seed="seed-system", rounds=1000, clients_required=1, timeout=60, train={"seconds": 0.3})
    host.await_round("units", 2, 60)
    for role, instance in reversed(STARTED):
        unit = host.unit(role, instance)
        node = host.nodes.pop(Path(unit.value("WorkingDirectory")).name)
        assert node.stop(float(unit.value("TimeoutStopSec"))) == 0, node.name
