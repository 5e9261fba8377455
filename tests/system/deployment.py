"""A distributed alliance on this machine: real servers, each role as processes of its own. For tests and `make chaos`."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pika
from numpy.typing import NDArray

from fedmq import aggregation
from fedmq.blobs.s3 import S3Blobs
from fedmq.errors import Transient
from fedmq.records.base import Records
from fedmq.records.mongo import MongoRecords
from fedmq.tensors import tensorblob
from fedmq.tensors.tensorblob import Source
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef
from fedmq_schemas.policy import DEFAULT_RULE
from fedmq_schemas.records import Ledger
from support.servers import choice
from support.servers.mongo import MongoServer
from support.servers.ports import free_ports
from support.servers.rabbitmq import RabbitmqServer
from support.servers.seaweedfs import S3Server
from support.waiting import SECONDS, until
from system.node import Node

T = TypeVar("T")
PACKAGE = Path(__file__).parent / "package"


@dataclass
class Servers:
    rabbitmq: RabbitmqServer
    s3: S3Server
    mongo: MongoServer

    def start(self) -> Servers:
        for server in (self.rabbitmq, self.s3, self.mongo):
            server.start()
        return self

    def remove(self) -> None:
        self.rabbitmq.remove()
        self.s3.remove()
        self.mongo.remove()


def private_servers(folder: Path) -> Servers:
    return Servers(
        choice.make_rabbitmq(folder / "rabbitmq"), choice.make_s3(folder / "s3"), choice.make_mongo(folder / "mongo")
    )


@dataclass
class Deployment:
    """Names are `reducer-1`, `combiner-1`, `client-1` and so on. `presence`: seconds between signs of life. `programs`: what
    runs a role, where that is not `fedmq run`."""

    folder: Path
    servers: Servers
    alliance: str
    presence: float = 3.0
    package: Path = PACKAGE
    nodes: dict[str, Node] = field(default_factory=dict)
    programs: dict[str, tuple[str | Path, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        s3 = self.servers.s3
        self.blobs = S3Blobs(s3.endpoint, s3.access_key, s3.secret_key, tls=s3.tls is not None)
        # The stand-in takes eight connections at a time: three of each of two reducers, two of ours.
        self.records: Records = MongoRecords(
            self.servers.mongo.host, self.servers.mongo.port, self.alliance, connections=1
        )

    def environment(self, name: str) -> dict[str, str]:
        servers = self.servers
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("FEDN_")}
        host, _, port = servers.s3.endpoint.partition(":")
        return inherited | {
            "ALLIANCE_UID": self.alliance,
            "FEDN_AMQP_URL": servers.rabbitmq.url,
            "FEDN_MINIO_HOST": host,
            "FEDN_MINIO_PORT": port,
            "FEDN_MINIO_TLS": "false" if servers.s3.tls is None else "true",
            "FEDN_MINIO_ACCESS_KEY": servers.s3.access_key,
            "FEDN_MINIO_SECRET_KEY": servers.s3.secret_key,
            "FEDN_MONGO_HOST": servers.mongo.host,
            "FEDN_MONGO_PORT": str(servers.mongo.port),
            "FEDN_MONGO_CONNECTIONS": "2",
            "FEDN_PRESENCE": str(self.presence),
            "FEDN_PACKAGE": str(self.package),
            "FEDN_STATE_DIR": str(self.folder / "state" / name),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }

    def add(self, role: str, number: int, **settings: str) -> Node:
        name = f"{role}-{number}"
        health_port, api_port = free_ports(2)
        own = {"FEDN_HEALTH_PORT": str(health_port)}
        if role == "reducer":
            own["FEDN_REDUCER_PORT"] = str(api_port)
        elif role == "combiner":
            own["FEDN_COMBINER_NAME"] = name
        else:
            own["FEDN_CLIENT_NAME"] = name
        log = self.folder / f"{name}.log"
        node = Node(name, role, self.environment(name) | own | settings, log, None, health_port, api_port)
        node.program = self.programs.get(role, node.program)
        self.nodes[name] = node
        node.start()
        return node

    def start(self, *, reducers: int = 1, combiners: int = 2, clients: int = 6) -> Deployment:
        for role, count in (("reducer", reducers), ("combiner", combiners)):
            for number in range(1, count + 1):
                self.add(role, number)
        self.await_present(tables.COMBINERS, combiners)  # so that the clients are shared evenly
        for number in range(1, clients + 1):
            self.add("client", number)
        self.await_present(tables.CLIENTS, clients)
        return self

    def await_present(self, table: str, count: int, seconds: float = SECONDS) -> None:
        self.until(lambda: self.records.count(table, {"state": "present"}) >= count, f"{count} {table}", seconds)

    def heal(self) -> Deployment:
        """Starts whatever is down, and waits until all are there."""
        self.servers.start()
        for node in self.nodes.values():
            if node.is_running:
                node.signal(signal.SIGCONT)
            else:
                node.start()
        for role, table in (("combiner", tables.COMBINERS), ("client", tables.CLIENTS)):
            self.await_present(table, sum(node.role == role for node in self.nodes.values()))
        self.active_reducer()
        return self

    def remove(self, name: str) -> int:
        """Ends a process for good, in order; its exit code."""
        return self.nodes.pop(name).stop()

    def active_reducer(self, other_than: Node | None = None, seconds: float = SECONDS) -> Node:
        """The reducer that decides."""

        def active() -> Node | None:
            for node in self.nodes.values():
                if node.role == "reducer" and node is not other_than and node.is_running:
                    with suppress(OSError):
                        if node.health()["state"] == "active":
                            return node
            return None

        return self.until(active, "active reducer", seconds)

    def await_state(self, node: Node, state: str) -> None:
        """What its health page says, once it serves one."""

        def is_so() -> bool:
            with suppress(OSError):
                return bool(node.health()["state"] == state)
            return False

        self.until(is_so, f"{state} {node.name}")

    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.active_reducer().api_port}"

    def close(self) -> None:
        for node in self.nodes.values():
            node.kill()
        self.records.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- waiting ----------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], T | None], what: str, seconds: float = SECONDS) -> T:
        """Returns what `condition` returns once that is true; it may fail as long as a server is away."""

        def attempt() -> T | None:
            with suppress(Transient):
                return condition()
            return None

        return until(attempt, lambda: f"{what}; logs are in {self.folder}\n{self.last_lines()}", seconds)

    def last_lines(self) -> str:
        lines = []
        for node in self.nodes.values():
            text = node.log.read_text(errors="replace").splitlines()[-4:] if node.log.exists() else []
            lines += [f"{node.name}: {line}" for line in text]
        return "\n".join(lines)

    def round_of(self, session: str) -> int:
        """The number of committed rounds."""
        return self.records.count(tables.ROUNDS, {"session": session})

    def await_round(self, session: str, number: int, seconds: float = SECONDS) -> None:
        self.until(lambda: self.round_of(session) >= number, f"round {number} of {session}", seconds)

    def await_end(self, session: str, seconds: float = 2 * SECONDS) -> dict[str, Any]:
        """The session's record once it has ended."""

        def ended() -> dict[str, Any] | None:
            document = self.records.get(tables.SESSIONS, session)
            return document if document is not None and document["state"] in tables.ENDED else None

        return self.until(ended, f"end of {session}", seconds)

    # -- sessions ---------------------------------------------------------------------------------------------------

    def seed(self, weights: dict[str, NDArray[Any]] | None = None) -> str:
        """Puts an untrained model, the package's unless one is given, into bucket `models` and returns its id."""
        zeros = {"coefficients": np.zeros(40, np.float32), "intercept": np.zeros(1, np.float32)}
        name = "seed-system"
        self.blobs.put(keys.model_blob(name), tensorblob.encode(weights or zeros))
        return name

    def publish(self, body: dict[str, Any], exchange: str = "control", key: str = "control.start") -> None:
        """Publishes JSON with plain pika: what any AMQP client can do."""
        connection = pika.BlockingConnection(pika.URLParameters(self.servers.rabbitmq.url))
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            f"{self.alliance}.{exchange}", key, json.dumps(body), pika.BasicProperties(content_type="application/json")
        )
        connection.close()

    def start_session(self, session: str, **policy: Any) -> None:
        self.publish({"kind": "start", "id": session, "body": {"policy": policy}})

    def stop_session(self, session: str) -> None:
        """Ends a session after the round that is open."""
        self.publish(
            {"kind": "stop", "id": f"stop-{session}", "body": {"session": session, "when": "after_round"}},
            key="control.stop",
        )

    # -- what came of it --------------------------------------------------------------------------------------------

    def final_sha256(self, session: str) -> str:
        rounds = self.records.find(tables.ROUNDS, {"session": session}, order="round")
        sha256: str = rounds[-1]["model"]["sha256"]
        return sha256

    def check_ledgers(self, session: str, *, rounds: int, has_mean: bool = True) -> list[Ledger]:
        """Each committed model recomputed from its ledger and the clients' own uploads: equal to the last bit, no client
        twice, and close to the weighted mean as anybody would write it. `has_mean` False: values are too large for that."""
        committed = self.records.find(tables.ROUNDS, {"session": session}, order="round")
        assert [document["round"] for document in committed] == list(range(1, rounds + 1))
        ledgers = []
        for document in committed:
            ledger = Ledger.model_validate_json(self.blobs.get(document["ledger"]["key"]))
            ledgers.append(ledger)
            clients = [entry.client for entry in ledger.entries]
            assert len(clients) == len(set(clients))
            self._check_model(ledger, BlobRef.model_validate(document["model"]), has_mean)
        return ledgers

    def check_each_round_once(self, session: str) -> None:
        """Each round is reported once at most: the event's id derives from it. One published into an outage may be lost."""
        reported = self.records.find(tables.EVENTS, {"session": session, "name": "round.committed"})
        numbers = [document["round"] for document in reported]
        assert len(numbers) == len(set(numbers))

    def _check_model(self, ledger: Ledger, model: BlobRef, has_mean: bool) -> None:
        parent, meta = tensorblob.decode(self.blobs.get(ledger.parent.key))
        accepted = [entry for entry in ledger.entries if entry.outcome == "accepted"]
        assert ledger.total_weight == sum(entry.weight for entry in accepted)
        updates = [(entry, self.blobs.get(entry.blob.key)) for entry in accepted if entry.blob is not None]
        assert len(updates) == len(accepted)
        optimizer = aggregation.server_optimizer("fedavg")
        weighted = [(entry.weight, Source(data)) for entry, data in updates]
        again, _ = aggregation.replay(
            parent, meta, DEFAULT_RULE, ledger.exponents, weighted, optimizer, optimizer.configure({}), None
        )
        stored = self.blobs.get(model.key)
        assert tensorblob.encode(again, meta) == stored
        if not has_mean:
            return
        for name, values in tensorblob.decode(stored)[0].items():
            mean = sum(entry.weight * tensorblob.decode(data)[0][name].astype(float) for entry, data in updates)
            assert abs(values - (parent[name].astype(float) + mean / ledger.total_weight)).max() < 1e-6
