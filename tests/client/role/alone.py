"""A client with a real trainer and an embedded broker, and all messages that it publishes."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedmq import codec, tensors
from fedmq.blobs.memory import MemoryBlobs
from fedmq.brokers.base import Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.codec import Message
from fedmq.scheduler import VirtualScheduler
from fedmq_client import Client
from fedmq_client.pool.inline import InlinePool
from fedmq_client.role.actor import client_actor
from fedmq_client.role.model_cache import Models
from fedmq_client.role.store import MemoryStore
from fedmq_schemas import topology
from fedmq_schemas.messages import VERSION, Attach, BlobRef, Body, Grant, PlanKey, TaskMessage

ALLIANCE = topology.Topology("alone")
MODEL = tensors.encode({"w": np.zeros(2, np.float32)}, {})


class AloneClient:
    """The client `c1` of a package. The test is its reducer and its combiner, and reads `published`."""

    def __init__(self, package: Path, **options: Any) -> None:
        self.published: list[Outgoing] = []
        self.scheduler = VirtualScheduler()
        self._ids = (f"{number:06d}" for number in itertools.count())
        self._broker = MemoryBroker(self.scheduler, self)
        self._servers = self._broker.connect("servers")
        for queue in (ALLIANCE.client("c1"), ALLIANCE.reducer(), ALLIANCE.combiner("k1"), ALLIANCE.records()):
            self._servers.declare(queue)
        self._blobs = MemoryBlobs(clock=self.scheduler.wall)
        self._model = self._blobs.put("models/m", MODEL)
        self._sent: set[str] = set()
        self.actor = client_actor(
            Client("c1"),
            Attach(),
            package,
            self._broker.connect("c1"),
            self.scheduler,
            ALLIANCE,
            models=Models(None),
            new_id=lambda: next(self._ids),
            **{"pool": InlinePool(), "store": MemoryStore(), **options},
        )

    def on_publish(self, message: Outgoing) -> Sequence[float]:
        if message.message_id not in self._sent:
            self.published.append(message)
        return (0.0,)

    def run(self, seconds: float = 1.0) -> None:
        self.scheduler.run(limit=self.scheduler.now() + seconds)

    def send(self, exchange: str, key: str, body: Body, version: int = VERSION) -> None:
        name = f"servers-{next(self._ids)}"
        self._sent.add(name)
        envelope = {
            "kind": body.kind,
            "version": version,
            "id": name,
            "alliance": ALLIANCE.alliance,
            "sender": "reducer" if exchange == "assignment" else "k1",
            "sent_at": 0.0,
        }
        data = codec.encode(envelope, codec.fields_of(body))
        self._servers.publish(Outgoing(ALLIANCE.exchange(exchange), key, data, name))
        self.run()

    def attach(self) -> None:
        self.actor.start()
        grant = Grant(combiner="k1", ordinal=0, count=1, presence=10.0)
        self.send("assignment", topology.assignment_key("c1"), grant)

    def request(self, action: Any = "train", model: BlobRef | None = None, round: int = 1, session: str = "s") -> None:
        task = TaskMessage(
            plan=PlanKey(session=session, round=round, action=action),
            client="c1",
            combiner="k1",
            model=model or self._model,
            model_url=self._blobs.presign_get("models/m", 1e9),
            upload_key="updates/u",
            upload_url=self._blobs.presign_put("updates/u", 1e9),
            timeout=60.0,
            rounds=3,
            seed=1,
        )
        self.send("task", topology.task_key("c1"), task)

    def messages(self) -> list[Message]:
        """Returns what the client has published."""
        return [
            codec.decode(each.body, each.content_type, message_id=each.message_id, alliance=ALLIANCE.alliance)
            for each in self.published
        ]

    def bodies(self, *kinds: type[Body]) -> list[Any]:
        return [message.body for message in self.messages() if isinstance(message.body, kinds)]


def absent_model() -> BlobRef:
    return BlobRef(key="models/absent", size=1, sha256=hashlib.sha256(b"absent").hexdigest())
