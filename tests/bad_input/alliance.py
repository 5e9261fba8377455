"""A whole alliance in virtual time with one peer that misbehaves: real cores, real runtime, real performers.

Two good clients add 1 to every number of the model in each round. So whatever a bad input does, after a finished session
of R rounds every number is exactly R, unless something bad was folded or something good was lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from fedmq import codec, tensors
from fedmq.blobs import transfer
from fedmq.blobs.memory import MemoryBlobs
from fedmq.brokers.base import Delivery, Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.codec import MSGPACK
from fedmq.records.sqlite import SqliteRecords
from fedmq.runtime.actor import Actor
from fedmq.scheduler import VirtualScheduler
from fedmq_client.pool.inline import InlinePool
from fedmq_client.role.actor import client_actor
from fedmq_client.role.model_cache import Models
from fedmq_client.role.store import MemoryStore
from fedmq_client.trainer import Client
from fedmq_combiner.actor import combiner_actor
from fedmq_reducer.actor import reducer_actor
from fedmq_reducer.recorder import Recorder
from fedmq_schemas import keys, messages, topology
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Attach, BlobRef, Body, TaskMessage, Update
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import Ledger
from fedmq_schemas.topology import Topology

ALLIANCE = Topology("bad")
COMBINER, STRANGER, SESSION, SEED = "combiner1", "stranger", "s1", "seed"
GOOD = ("good1", "good2")
PRESENCE = 3600.0
LONGEST = 100_000.0
"""Virtual seconds after which a session counts as stuck."""

MODEL = {"b": np.zeros((2, 2), np.float32), "w": np.zeros(3, np.float32)}
POLICY = Policy(rounds=2, clients_required=2, timeout=60, validation_timeout=30, random_seed=1, seed=SEED)

TRAINER = """
def train(weights, task):
    return {name: value + 1 for name, value in weights.items()}, 10, {"loss": 0.5}

def validate(weights, task):
    return 10, {"loss": 0.25}
"""

OnTask = Callable[["Stranger", TaskMessage], None]


def ignore(stranger: Stranger, task: TaskMessage) -> None:
    """The stranger does nothing with its task."""


class Alliance:
    """Started by the constructor; `run` trains one session to its end."""

    def __init__(self, folder: Path, *, trainer: str = TRAINER, on_task: OnTask | None = ignore) -> None:
        self.scheduler = VirtualScheduler()
        self.broker = MemoryBroker(self.scheduler)
        self.blobs = MemoryBlobs(clock=self.scheduler.wall)
        self.records = SqliteRecords(":memory:", clock=self.scheduler.wall)
        self.blobs.put(keys.model_blob(SEED), tensors.encode(MODEL, {}))
        self._numbers = itertools.count()
        self._folder = folder
        self._pool = InlinePool()
        self._ended: set[str] = set()
        self.letters: list[Delivery] = []
        (folder / "fedn.yaml").write_text("trainer: trainer.py\n")
        (folder / "trainer.py").write_text(trainer)
        self._observe()
        Recorder(self.broker.connect("recorder"), self.scheduler, ALLIANCE, self.records, offload=False).start()
        common: dict[str, Any] = {
            "scheduler": self.scheduler,
            "topology": ALLIANCE,
            "new_id": lambda: f"m{next(self._numbers)}",
        }
        self.actors: dict[str, Actor] = {
            "reducer": reducer_actor(
                "r1",
                self.broker.connect("reducer"),
                blobs=self.blobs,
                records=self.records,
                scratch=folder,
                presence=PRESENCE,
                partitions=2,
                **common,
            ),
            COMBINER: combiner_actor(
                COMBINER, self.broker.connect(COMBINER), blobs=self.blobs, scratch=folder, presence=PRESENCE, **common
            ),
            **{name: self._client(name, common) for name in GOOD},
        }
        for actor in self.actors.values():
            actor.start()
        self.stranger = Stranger(self, on_task) if on_task is not None else None
        self.settle(1.0)

    def _client(self, name: str, common: dict[str, Any]) -> Actor:
        return client_actor(
            Client(name),
            Attach(weight=10),
            self._folder,
            self.broker.connect(name),
            pool=self._pool,
            store=MemoryStore(),
            models=Models(None),
            **common,
        )

    def _observe(self) -> None:
        connection = self.broker.connect("observer")
        queue = ALLIANCE.observer("test", "event.*.session.#")
        connection.declare(queue)

        def seen(delivery: Delivery) -> None:
            connection.ack([delivery.tag])
            _, session, _, word = delivery.routing_key.split(".")
            if word in (*tables.ENDED, "refused"):
                self._ended.add(session)

        connection.consume(queue.name, 0, seen)
        self.broker.connect("undertaker").consume(ALLIANCE.dead().name, 0, self.letters.append)

    # -- what a test does -------------------------------------------------------------------------------------------

    def settle(self, seconds: float) -> None:
        self.scheduler.run(limit=self.scheduler.now() + seconds)

    def start(self, policy: Policy | Mapping[str, Any] = POLICY, session: str = SESSION) -> None:
        """A start message; a mapping is sent as it is, whatever is in it."""
        values = policy.model_dump() if isinstance(policy, Policy) else dict(policy)
        self.publish(
            "control", topology.control_key("start"), self.pack("start", {"policy": values}, message_id=session)
        )

    def run(self, policy: Policy | Mapping[str, Any] = POLICY, session: str = SESSION) -> dict[str, Any]:
        """Trains to the end, and gives the session's record; fails if the session is stuck."""
        self.start(policy, session)
        return self.finish(session)

    def finish(self, session: str = SESSION) -> dict[str, Any]:
        assert self.scheduler.run(lambda: session in self._ended, LONGEST), "the session is stuck"
        self.settle(1.0)
        return dict(self.records.get(tables.SESSIONS, session) or {})

    def pack(self, kind: str | None, body: Any, *, message_id: str | None = None, **changes: Any) -> bytes:
        """A message in msgpack, with the envelope's fields changed at will."""
        envelope = {
            "kind": kind,
            "version": messages.VERSION,
            "id": message_id or f"x{next(self._numbers)}",
            "alliance": ALLIANCE.alliance,
            "sender": STRANGER,
            "sent_at": 0.0,
        }
        packed: bytes = msgpack.packb({**envelope, "body": body, **changes})
        return packed

    def publish(
        self,
        exchange: str,
        key: str,
        body: bytes,
        *,
        content_type: str = MSGPACK,
        user: str = STRANGER,
        message_id: str = "",
    ) -> None:
        message_id = message_id or f"x{next(self._numbers)}"
        self.broker.connect(user).publish(Outgoing(ALLIANCE.exchange(exchange), key, body, message_id, content_type))

    # -- what a test sees -------------------------------------------------------------------------------------------

    def events(self, name: str, **where: Any) -> list[dict[str, Any]]:
        return [dict(event) for event in self.records.find(tables.EVENTS, {"name": name, **where}, order="at")]

    def reasons(self, name: str, **where: Any) -> list[str]:
        return [event["data"].get("reason", "") for event in self.events(name, **where)]

    @property
    def dead(self) -> list[str]:
        """The reasons of the dead letters."""
        return [str(letter.headers["x-fedmq-reason"]) for letter in self.letters]

    def outcomes(self, number: int = 1) -> dict[str, tuple[str, str]]:
        """From the ledger of a committed round: client → outcome and reason."""
        document = self.records.get(tables.ROUNDS, keys.round_record(SESSION, number))
        assert document is not None
        ledger = Ledger.model_validate_json(self.blobs.get(document["ledger"]["key"]))
        return {entry.client: (entry.outcome, entry.reason) for entry in ledger.entries}

    def model(self) -> dict[str, Any]:
        newest = self.records.find(tables.MODELS, {"session": SESSION}, order="round", descending=True, limit=1)
        return tensors.decode(self.blobs.get(newest[0]["ref"]["key"]))[0]


class Stranger:
    """A client whose every message is written by the test. It attaches and says hello as it should."""

    def __init__(self, alliance: Alliance, on_task: OnTask) -> None:
        self.alliance = alliance
        self.tasks: list[TaskMessage] = []
        self._on_task = on_task
        self._connection = alliance.broker.connect(STRANGER)
        self._connection.consume(ALLIANCE.client(STRANGER).name, 0, self._deliver)
        self.request(Attach())

    def _deliver(self, delivery: Delivery) -> None:
        self._connection.ack([delivery.tag])
        body = codec.decode(
            delivery.body, delivery.content_type, message_id=delivery.message_id, alliance=ALLIANCE.alliance
        ).body
        if isinstance(body, messages.Grant):
            self.send(messages.ClientHello())
        elif isinstance(body, TaskMessage):
            self.tasks.append(body)
            self._on_task(self, body)

    def request(self, body: Body) -> None:
        key = topology.assignment_request_key(STRANGER)
        self.alliance.publish("assignment", key, self.alliance.pack(body.kind, body.model_dump()))

    def send(self, body: Body | bytes, to: str = COMBINER) -> None:
        data = body if isinstance(body, bytes) else self.alliance.pack(body.kind, body.model_dump(warnings=False))
        self.alliance.publish("update", topology.update_key(to, STRANGER), data)

    def upload(self, task: TaskMessage, data: bytes) -> BlobRef:
        return transfer.put(task.upload_key, task.upload_url, data)

    def update(self, task: TaskMessage, blob: BlobRef, **changes: Any) -> Update:
        """A proper update, with fields changed at will and unchecked."""
        proper = Update(plan=task.plan, model=task.model.key, blob=blob, weight=10, metrics={"loss": 0.5})
        return proper.model_copy(update=changes)

    def answer(self, task: TaskMessage, data: bytes, **changes: Any) -> None:
        self.send(self.update(task, self.upload(task, data), **changes))


def delta(**changes: Any) -> bytes:
    """A proper update's blob, adding 1 everywhere, with tensors changed, added, or left out (None)."""
    arrays = {name: np.ones_like(value) for name, value in MODEL.items()} | changes
    return tensors.encode({name: value for name, value in arrays.items() if value is not None}, {})


def only_train(answer: OnTask) -> OnTask:
    """The stranger answers train tasks, and leaves validations alone."""

    def on_task(stranger: Stranger, task: TaskMessage) -> None:
        if task.plan.action == "train":
            answer(stranger, task)

    return on_task


def assert_unharmed(alliance: Alliance, session: Mapping[str, Any], rounds: int = 2) -> None:
    """The session is finished, and in each round the good clients' work is in the model, whole, and nothing else."""
    assert session["state"] == "finished", session["reason"]
    for number in range(1, rounds + 1):
        outcomes = alliance.outcomes(number)
        assert [outcomes[name][0] for name in GOOD] == ["accepted", "accepted"]
    for name, value in alliance.model().items():
        assert np.array_equal(value, np.full_like(MODEL[name], rounds)), name
    assert alliance.events("actor.error") == []
