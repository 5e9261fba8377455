"""An alliance as an operator runs it: the servers share an account of the broker, and each client has one of its own."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmq_schemas import records as tables
from fedmq_schemas.topology import Topology
from system.deployment import Deployment
from system.node import COMMAND, Node

TABLES = {"combiner": tables.COMBINERS, "client": tables.CLIENTS}
SERVERS = "servers"
"""The account that reducers and combiners share."""


@dataclass
class OperatedAlliance(Deployment):
    """Runs all roles with the release before this one until `upgrade` has replaced them.

    `old` is the command of that release, which is installed in an environment of its own.
    """

    old: Path = COMMAND
    password: str = field(default_factory=secrets.token_urlsafe)
    accounts: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        broker = self.servers.rabbitmq
        broker.control("add_user", SERVERS, self.password)
        broker.control("set_user_tags", SERVERS, "monitoring")
        own = f"^{self.alliance}[.]"
        broker.control("set_permissions", SERVERS, own, own, own)
        self.programs = dict.fromkeys(("reducer", "combiner", "client"), (self.old, "run"))

    def environment(self, name: str) -> dict[str, str]:
        """Returns the settings of a role. One that has an account of its own knows no other."""
        # MongoDB's stand-in takes eight connections at a time: two of each of two reducers, two of a verb, two of ours.
        found = super().environment(name) | {"FEDN_MONGO_CONNECTIONS": "1"}
        if name.startswith(("reducer-", "combiner-")):
            found["FEDN_AMQP_URL"] = self.url(SERVERS, self.password)
        if self.programs["client"][0] == self.old:
            found.pop("PYTHONPATH", None)  # an installed release imports its own files
        return found | self.accounts.get(name, {})

    def url(self, account: str, password: str) -> str:
        return f"amqp://{account}:{password}@127.0.0.1:{self.servers.rabbitmq.port}/"

    def fedmq(self, *words: str | Path, **settings: str) -> Any:
        """Returns the document that a verb of this release prints, with the settings of the reducer that decides."""
        environment = super().environment("operator") | {"FEDN_MONGO_CONNECTIONS": "1"} | settings
        environment["FEDN_RABBITMQ_MANAGEMENT_URL"] = self.servers.rabbitmq.management_url
        done = subprocess.run(
            [COMMAND, *words, "--json"], env=environment, capture_output=True, text=True, timeout=1200, check=False
        )
        if done.returncode:
            raise AssertionError(
                f"fedmq {' '.join(map(str, words))} exits with {done.returncode}: {done.stdout[-2000:]}"
            )
        return json.loads(done.stdout)

    def join(self, role: str, number: int) -> Node:
        """Starts a new process, and returns once it is present."""
        if role == "client":
            self.accounts[f"client-{number}"] = self.fedmq("account", "add", f"client-{number}")
        began = time.time()
        node = self.add(role, number)
        self.await_presence(node, began)
        return node

    def leave(self, name: str) -> None:
        """Ends a process for good."""
        code = self.remove(name)
        assert code == 0, f"{name} exits with {code} at its end"
        if name in self.accounts:
            del self.accounts[name]
            self.fedmq("account", "revoke", name)

    def renew(self, node: Node) -> None:
        """Replaces a process in order by one with the settings of now, and returns once that one is present."""
        code = node.stop()
        assert code == 0, f"{node.name} exits with {code} at its end"
        kept = {"FEDN_HEALTH_PORT", "FEDN_REDUCER_PORT", "FEDN_COMBINER_NAME", "FEDN_CLIENT_NAME"}
        own = {key: value for key, value in node.environment.items() if key in kept}
        node.environment = self.environment(node.name) | own
        node.program = self.programs[node.role]
        self.restart(node)

    def restart(self, node: Node) -> None:
        """Starts a process that has ended, and returns once it is present."""
        began = time.time()
        node.start()
        self.await_presence(node, began)

    def await_presence(self, node: Node, began: float) -> None:
        """Waits until a process that was started at this time does its work."""

        def is_present() -> bool:
            assert node.is_running, f"{node.name} has ended: {self.last_lines()}"
            state = self.state_of(node)
            if node.role == "reducer":
                return state in ("active", "standby")
            document = self.records.get(TABLES[node.role], node.name)
            if document is None or document["state"] != "present":
                return False
            return state == "attached" if node.role == "client" else document["last_seen"] > began

        self.until(is_present, f"{node.name} is present")
        self.active_reducer()

    def state_of(self, node: Node) -> str:
        try:
            return str(node.health().get("state"))
        except OSError:
            return "away"

    def depths(self) -> dict[str, int]:
        """Returns the queues that hold messages, delivered or not, and how many.

        Leaves out the inboxes of combiners that have left: they keep what arrived last, until the combiner returns.
        """
        found = self.servers.rabbitmq.manage("GET", "queues/%2F?columns=name,messages")
        depths = {each["name"]: each["messages"] for each in found if each.get("messages")}
        own, inbox = f"{self.alliance}.", f"{self.alliance}.combiner."
        here = {Topology(self.alliance).combiner(name).name for name in self.nodes}
        return {
            name: depth
            for name, depth in depths.items()
            if name.startswith(own) and (name in here or not name.startswith(inbox))
        }
