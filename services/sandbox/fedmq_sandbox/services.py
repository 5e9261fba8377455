"""The roles of a sandbox: recorder, reducer, combiners, clients and evaluator on one scheduler."""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmq import codec
from fedmq.blobs.base import Blobs
from fedmq.brokers.base import Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.process.stall_watch import StallWatch
from fedmq.records.base import Records
from fedmq.runtime.actor import Actor
from fedmq.runtime.event_stream import observe
from fedmq.runtime.stalls import Stalls
from fedmq.scheduler import ThreadScheduler
from fedmq_client.job.job import Pool
from fedmq_client.personal.folder import PersonalFolder, stored_in
from fedmq_client.role.actor import client_actor
from fedmq_client.role.folder_store import FolderStore
from fedmq_client.role.model_cache import Models
from fedmq_client.role.store import MemoryStore, Store
from fedmq_combiner.actor import combiner_actor
from fedmq_reducer.actor import reducer_actor
from fedmq_reducer.core import ReducerCore
from fedmq_reducer.recorder import Recorder
from fedmq_reducer.system_monitor import SystemMonitor
from fedmq_sandbox.options import SandboxOptions
from fedmq_sandbox.package_change import package_change
from fedmq_sandbox.seed import EVALUATOR
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Attach, Body, CombinerPresence, Envelope, Event, Start, TaskName
from fedmq_schemas.policy import LONGEST_TIMEOUT, Policy
from fedmq_schemas.topology import Topology, assignment_request_key, control_key, event_key

log = logging.getLogger("fedmq.sandbox")
OnEvent = Callable[[Envelope, Event], None]

SESSION_EVENTS = "event.*.session.#"
"""The only events that are observed where nobody follows rounds: decoding all of them costs time."""
ENDINGS = {f"session.{state}" for state in tables.ENDED} | {"session.refused"}
PRESENCE = 3600.0
"""Seconds between heartbeats. All members live in this process and end with it. None can vanish alone, and a thread that is
busy with a fold, or with a trainer, publishes no heartbeat: a short period would take a busy process for absent members."""
LOOK_AGAIN = 0.01


@dataclass(slots=True)
class Services:
    """The actors of one alliance. All methods run while nobody else runs the scheduler."""

    options: SandboxOptions
    topology: Topology
    random_seed: int
    package_sha256: str
    scheduler: ThreadScheduler
    broker: MemoryBroker
    blobs: Blobs
    records: Records
    pool: Pool
    _actors: list[Actor] = field(default_factory=list)
    _models: Models = field(default_factory=lambda: Models(None))
    _recorder: Recorder | None = None
    _monitor: SystemMonitor | None = None

    def start(self, on_event: OnEvent, routing_key: str) -> None:
        """Starts all actors. They begin when the scheduler runs.

        `on_event` receives every event that `routing_key` matches, from the first one on.
        """
        observer = self.broker.connect("observer")
        queue = self.topology.observer("sandbox", routing_key)
        self.scheduler.post(lambda: observe(observer, queue, self.options.alliance, on_event))
        options, root = self.options, self.options.state_dir
        combiners = [f"combiner{number + 1}" for number in range(options.combiners)]
        clients = [f"client{number + 1}" for number in range(options.clients)]
        scratch = (root or Path.cwd()) / "scratch"
        stalls = Stalls(self.scheduler.wall)
        self.scheduler.post(StallWatch(self.scheduler, stalls, (), "sandbox").look)
        common: dict[str, Any] = {
            "scheduler": self.scheduler,
            "topology": self.topology,
            "new_id": _new_id,
            "stalls": stalls,
        }
        stores: dict[str, Any] = {"blobs": self.blobs, "presence": PRESENCE}
        self._recorder = Recorder(
            self.broker.connect("recorder"), self.scheduler, self.topology, self.records, offload=False, stalls=stalls
        )
        self._recorder.start()
        for document in self.records.find(tables.SESSIONS):
            if document["state"] not in tables.ENDED:
                self._report_change(document["session"])
        reducer = reducer_actor(
            "sandbox",
            self.broker.connect("reducer"),
            records=self.records,
            scratch=scratch,
            partitions=options.clients,
            **stores,
            **common,
        )
        self._run(reducer)
        self._end_absent(combiners, [*clients, EVALUATOR] if options.evaluator else clients)
        if root is not None:
            self._watch(reducer, root)
        for name in combiners:
            self._run(combiner_actor(name, self.broker.connect(name), scratch=scratch / name, **stores, **common))
        for number, name in enumerate(clients):
            self._start_client(name, ("train", "validate"), number, common)
        if options.evaluator:
            self._start_client(EVALUATOR, ("validate",), 0, common)

    def start_session(self, session: str, policy: Policy) -> None:
        """Publishes the start message once all clients are present, so that the first draw is among all of them.

        A session under a debugger has the longest time limits that there are: a person at a breakpoint takes time.
        """
        if self.options.debug:
            policy = policy.model_copy(update=dict.fromkeys(("timeout", "validation_timeout"), float(LONGEST_TIMEOUT)))
        wanted = self.options.clients + self.options.evaluator

        def look() -> None:
            if self.records.count(tables.CLIENTS, {"state": "present"}) < wanted:
                self.scheduler.later(LOOK_AGAIN, look)
                return
            self._publish("sandbox", "control", control_key("start"), Start(policy=policy), session)

        self._report_change(session)
        self.scheduler.post(look)

    def stop(self, is_interrupted: Callable[[], bool]) -> None:
        """Stops the actors, and then the recorder, which first receives all that they published.

        Waits until the reducer has deleted what the session does not keep, unless it is interrupted.
        """
        while not (is_interrupted() or self._actors[0].idle):
            self.scheduler.later(LOOK_AGAIN, self.scheduler.stop)
            self.scheduler.run()
        for actor in reversed(self._actors):
            actor.stop()
        while self.broker.ready(self.topology.records().name):
            self.scheduler.post(self.scheduler.stop)
            self.scheduler.run()
        self.close()
        if self._monitor is not None:
            self._monitor.stop()
            self._monitor.look(self.scheduler.wall(), {}, with_stores=True)

    def close(self) -> None:
        """Writes the events that the recorder still holds. Idempotent."""
        if self._recorder is not None:
            self._recorder.stop()

    def _report_change(self, session: str) -> None:
        """Reports for a session that goes on, or begins from its predecessor's model, that the package has changed."""
        change = package_change(self.records, self.package_sha256)
        if change is not None:
            event = change.event(session, self.records.count(tables.ROUNDS, {"session": session}))
            log.warning("session %s: %s", session, event.data["reason"])
            self._publish("sandbox", "event", event_key(session, event.name), event, _new_id())

    def _end_absent(self, combiners: Sequence[str], clients: Sequence[str]) -> None:
        """Ends the presence of members of an earlier process that are not among these: no silence would show it."""
        for document in self.records.find(tables.COMBINERS, {"state": "present"}):
            name = document["combiner"]
            if name not in combiners:
                key = assignment_request_key(name)
                self._publish(name, "assignment", key, CombinerPresence(clients=0, leaving=True), _new_id())
        for document in self.records.find(tables.CLIENTS, {"state": "present"}):
            if document["client"] not in clients:
                self.records.update(tables.CLIENTS, document["client"], {"state": "away"})

    def _publish(self, sender: str, exchange: str, key: str, body: Body, message: str) -> None:
        envelope = Envelope(
            kind=body.kind,
            id=message,
            alliance=self.options.alliance,
            sender=sender,
            sent_at=self.scheduler.wall(),
        )
        data = codec.encode(envelope.model_dump(), body.model_dump())
        out = Outgoing(self.topology.exchange(exchange), key, data, envelope.id)
        connection = self.broker.connect(sender)
        self.scheduler.post(lambda: connection.publish(out, lambda _: None))

    def _watch(self, reducer: Actor, folder: Path) -> None:
        core = reducer.core
        assert isinstance(core, ReducerCore)
        self._monitor = SystemMonitor(
            self.scheduler,
            self.records,
            self.blobs,
            self.broker.depths,
            folder=folder,
            is_active=lambda: True,
            waits=core.waits,
        )
        self._monitor.start()

    def _start_client(self, name: str, tasks: tuple[TaskName, ...], ordinal: int, common: dict[str, Any]) -> None:
        root = self.options.state_dir
        store: Store = MemoryStore()
        models = self._models
        if root is not None:
            folder = root / "clients" / name
            store = FolderStore(folder / "finished", PersonalFolder(folder / "personal", stored_in(root / "blobs")))
            models = Models(folder / "models")
        client = self.options.client(name, tasks, ordinal, self.random_seed)
        attach = Attach(tasks=tasks, labels=dict(client.labels), package=self.package_sha256)
        connection = self.broker.connect(name)
        self._run(
            client_actor(
                client,
                attach,
                self.options.package,
                connection,
                pool=self.pool,
                store=store,
                models=models,
                output_log=self.options.output_log(name),
                **common,
            )
        )

    def _run(self, actor: Actor) -> None:
        self._actors.append(actor)
        self.scheduler.post(actor.start)


_LIFE = uuid.uuid4().hex[:12]
_numbers = itertools.count()


def _new_id() -> str:
    """Returns an id that no other process makes: a number, and a suffix that is drawn once a process."""
    return f"{next(_numbers):08x}{_LIFE}"
