"""What happens to an alliance during a soak. Each incident returns once the alliance is whole again, with what was done."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count, cycle
from pathlib import Path

from fedmq.brokers.rabbitmq.probe import probe
from fedmq.errors import ConfigError
from soak.alliance import SERVERS, OperatedAlliance
from support.servers import choice
from support.servers.mongo import MongoServer
from support.servers.rabbitmq import RabbitmqServer
from support.servers.seaweedfs import S3Server
from system.node import COMMAND, Node

OUTAGE = 5.0
"""Seconds that a server is away."""
STEADY = ("reducer-1", "combiner-1", "client-1", "client-2")
"""The processes that churn spares after some time, so that their memory can be compared with what it was long before."""

Say = Callable[[str], None]


class Churn:
    """Processes that are killed and come back, that leave, and that join, in turn."""

    def __init__(self, alliance: OperatedAlliance, seed: int) -> None:
        self._alliance = alliance
        self._random = random.Random(seed)
        self._numbers = count(7)
        self._turns = cycle(
            (self.kill_a_client, self.replace_a_client, self.kill_a_combiner, self.come_and_go, self.kill_a_reducer)
        )
        self.spares: tuple[str, ...] = ()

    def next(self) -> str:
        return next(self._turns)()

    def kill_a_client(self) -> str:
        return self._kill(self._one("client"))

    def kill_a_combiner(self) -> str:
        return self._kill(self._one("combiner"))

    def kill_a_reducer(self) -> str:
        return self._kill(self._one("reducer"))

    def replace_a_client(self) -> str:
        left = self._one("client").name
        self._alliance.leave(left)
        joined = self._alliance.join("client", next(self._numbers)).name
        return f"{left} has left, {joined} has joined"

    def come_and_go(self) -> str:
        if "combiner-3" in self._alliance.nodes:
            self._alliance.leave("combiner-3")
            return "combiner-3 has left"
        self._alliance.join("combiner", 3)
        return "combiner-3 has joined"

    def _one(self, role: str) -> Node:
        nodes = [each for each in self._alliance.nodes.values() if each.role == role and each.name not in self.spares]
        return self._random.choice(nodes)

    def _kill(self, node: Node) -> str:
        was_active = node.role == "reducer" and self._alliance.active_reducer() is node
        node.kill()
        self._alliance.restart(node)
        return f"SIGKILL {node.name}{', which decided' if was_active else ''}, and started again"


class ServerKills:
    """The servers, of which each `next` kills another one."""

    def __init__(self, alliance: OperatedAlliance) -> None:
        servers = alliance.servers
        self._alliance = alliance
        named: list[tuple[str, RabbitmqServer | S3Server | MongoServer]] = [
            ("RabbitMQ", servers.rabbitmq),
            ("S3", servers.s3),
            ("MongoDB", servers.mongo),
        ]
        self._turns = cycle(named)

    def next(self) -> str:
        name, server = next(self._turns)
        server.kill()
        time.sleep(OUTAGE)
        server.start()
        self._alliance.until(self._is_managed, "RabbitMQ's management API answers")
        self._alliance.active_reducer()
        return f"SIGKILL {name}, away for {OUTAGE:.0f} s"

    def _is_managed(self) -> bool:
        with suppress(OSError):
            self._alliance.depths()
            return True
        return False


def upgrade(alliance: OperatedAlliance, say: Say) -> str:
    """Replaces all processes in the order of docs/how-to/upgrade.md."""
    alliance.programs = dict.fromkeys(alliance.programs, (COMMAND, "run"))
    for role in ("reducer", "combiner", "client"):
        for node in [each for each in alliance.nodes.values() if each.role == role]:
            alliance.renew(node)
            say(f"upgrade: {node.name}")
    return "upgrade: every process runs this release"


def rotate_passwords(alliance: OperatedAlliance, say: Say) -> str:
    """Gives the servers, and one client, a new password, as docs/how-to/operate.md says."""
    old = alliance.password
    alliance.password = secrets.token_urlsafe()
    alliance.servers.rabbitmq.control("change_password", SERVERS, alliance.password)
    for node in [each for each in alliance.nodes.values() if each.role in ("reducer", "combiner")]:
        alliance.renew(node)
        say(f"new password: {node.name}")
    before = alliance.accounts["client-1"]
    alliance.accounts["client-1"] = alliance.fedmq("account", "add", "client-1")
    alliance.renew(alliance.nodes["client-1"])
    for url in (alliance.url(SERVERS, old), before["FEDN_AMQP_URL"]):
        assert _is_refused(url), f"{url} is still accepted"
    return "the servers and client-1 have new passwords; the old ones are refused"


def _is_refused(url: str) -> bool:
    try:
        probe(url, None)
    except ConfigError:
        return True
    return False


def drill(alliance: OperatedAlliance, folder: Path, say: Say) -> str:
    """Backs up the alliance while it trains, restores it into an empty second one, and verifies every model there."""
    began = time.monotonic()
    saved = alliance.fedmq("backup", folder)
    assert saved["faults"] == [], saved["faults"]
    say(f"restore drill: {saved['blobs']} blobs saved, {time.monotonic() - began:.0f} s")
    # Records of its own: the stand-in for MongoDB refuses writes of the alliance that trains while others write much.
    records = choice.make_mongo(folder.with_name("drill"))
    records.start()
    try:
        second = {
            "ALLIANCE_UID": "drill",
            "FEDN_MINIO_BUCKET_PREFIX": "drill-",
            "FEDN_MONGO_HOST": records.host,
            "FEDN_MONGO_PORT": str(records.port),
        }
        restored = alliance.fedmq("restore", folder, **second)
        assert restored["check"]["faults"] == [], restored["check"]["faults"]
        say(f"restore drill: restored, {time.monotonic() - began:.0f} s")
        verified = alliance.fedmq("model", "verify", "--all", **second)
        assert verified["faults"] == [], verified["faults"]
    finally:
        records.remove()
    return f"restore drill: every blob and record of the second alliance is whole, {time.monotonic() - began:.0f} s"
