"""The sandbox: a whole alliance in one process, on the in-memory broker, files and SQLite.

These are the real services. What makes it survive the process's death at any instant is what makes the distributed
alliance survive: the records say what is decided, everybody says hello, and what is open is sent again.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import hashlib
import itertools
import json
import os
import queue
import secrets
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmq import codec
from fedmq.blobs.base import Blobs
from fedmq.blobs.files import FileBlobs
from fedmq.blobs.memory import MemoryBlobs
from fedmq.brokers.base import Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.errors import ConfigError
from fedmq.records.base import Records
from fedmq.records.sqlite import SqliteRecords
from fedmq.runtime.actor import Actor
from fedmq.runtime.event_stream import observe
from fedmq.scheduler import ThreadScheduler
from fedmq_client.job.job import Job, Pool, Result
from fedmq_client.packages.package import load
from fedmq_client.pool.inline import InlinePool
from fedmq_client.pool.processes import ProcessPool
from fedmq_client.role.actor import client_actor
from fedmq_client.role.model_cache import Models
from fedmq_client.role.store import FolderStore, MemoryStore, Store
from fedmq_client.trainer import Client, Form
from fedmq_combiner.actor import combiner_actor
from fedmq_reducer.actor import reducer_actor
from fedmq_reducer.core import ReducerCore
from fedmq_reducer.recorder import Recorder
from fedmq_reducer.system_monitor import SystemMonitor
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Attach, Envelope, Event, Start, TaskName
from fedmq_schemas.policy import Policy
from fedmq_schemas.topology import Topology, control_key

EVALUATOR = "evaluator"
PRESENCE = 5.0
INLINE_PRESENCE = 3600.0
INIT_TIMEOUT = 600.0
LOOK_AGAIN = 0.01
GC_THRESHOLD = (100_000, 50, 50)
"""A thousand actors are many live objects; looking at all of them every 700 allocations took a fifth of a round."""

OnEvent = Callable[[Envelope, Event], None]


class Interrupted(Exception):
    """`Sandbox.interrupt` was called before the session ended. It can be run again."""


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """`workers` 0: trainers run in this process. `state_dir` None: nothing is written, all of it is gone at the end.
    `labels`: the values that the clients have in turn for each label."""

    package: Path
    clients: int = 5
    combiners: int = 2
    workers: int = 2
    device: str = "auto"
    dirichlet: float | None = None
    state_dir: Path | None = None
    fsync: bool = False
    evaluator: bool = True
    alliance: str = "sandbox"
    form: Form | None = None
    python_env: bool = True
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(slots=True)
class Sandbox:
    """A running alliance. Use it as a context manager, from one thread:

        with Sandbox(options, policy) as sandbox:
            session = sandbox.train()

    `on_event` is told every event, on the sandbox's own thread.
    """

    options: SandboxOptions
    policy: Policy
    on_event: OnEvent | None = None
    blobs: Blobs = field(init=False)
    records: Records = field(init=False)
    broker: MemoryBroker = field(init=False)
    scheduler: ThreadScheduler = field(init=False, default_factory=ThreadScheduler)
    topology: Topology = field(init=False)
    session: str = field(init=False, default="")
    _actors: list[Actor] = field(init=False, default_factory=list)
    _pool: Pool = field(init=False)
    _models: Models = field(init=False, default_factory=lambda: Models(None))
    _package_sha256: str = field(init=False, default="")
    _recorder: Recorder = field(init=False)
    _vitals: SystemMonitor | None = field(init=False, default=None)
    _stack: contextlib.ExitStack = field(init=False, default_factory=contextlib.ExitStack)
    _interrupted: threading.Event = field(init=False, default_factory=threading.Event)

    def __enter__(self) -> Sandbox:
        with contextlib.ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _open(self, stack: contextlib.ExitStack) -> None:
        options = self.options
        self._package_sha256 = load(options.package).sha256
        stack.callback(gc.set_threshold, *gc.get_threshold())
        gc.set_threshold(*GC_THRESHOLD)
        self.topology = Topology(options.alliance)
        stack.callback(self.scheduler.close)
        self.broker = MemoryBroker(self.scheduler)
        if options.state_dir is None:
            self.blobs, self.records = MemoryBlobs(), SqliteRecords(":memory:")
        else:
            stack.enter_context(_locked(options.state_dir))
            self.blobs = FileBlobs(options.state_dir / "blobs", fsync=options.fsync)
            self.records = SqliteRecords(options.state_dir / "records.db", fsync=options.fsync)
        stack.callback(self.records.close)
        self._pool = ProcessPool(options.workers, options.device, threads=1) if options.workers else InlinePool()
        stack.callback(self._pool.close)
        self.session, self.policy = self._identity()

    def _identity(self) -> tuple[str, Policy]:
        """The session's id and random seed, the same whenever this state directory is opened."""
        random_seed = self.policy.random_seed if self.policy.random_seed is not None else secrets.randbits(31)
        chosen: dict[str, Any] = {"session": f"s{secrets.token_hex(4)}", "random_seed": random_seed}
        if self.options.state_dir is not None:
            path = self.options.state_dir / "sandbox.json"
            asked = {
                "clients": self.options.clients,
                "dirichlet": self.options.dirichlet,
                "policy": self.policy.model_dump(mode="json", exclude={"random_seed"}),
            }
            if path.exists():
                known = json.loads(path.read_text())
                if known["asked"] != asked or self.policy.random_seed not in (None, known["random_seed"]):
                    raise ConfigError(
                        f"{self.options.state_dir} holds a session with other options: give the same ones to resume it, "
                        "or another --state-dir"
                    )
                chosen = known
            else:
                replacement = path.with_suffix(".new")
                replacement.write_text(json.dumps({**chosen, "asked": asked}))
                os.replace(replacement, path)
        return chosen["session"], self.policy.model_copy(update={"random_seed": chosen["random_seed"]})

    # -- one session ------------------------------------------------------------------------------------------------

    def train(self) -> dict[str, Any]:
        """Runs the session to its end, wherever it was, and returns its record. Raises `Interrupted`."""
        document = self.records.get(tables.SESSIONS, self.session)
        if document is not None and document["state"] in tables.ENDED:
            return document
        seed = self._seed() if document is None else None
        self._start_services()
        if seed is not None:
            self._start_when_attached(self.policy.model_copy(update={"seed": seed}))
        self.scheduler.run()
        self._stop_services()
        ended = self.records.get(tables.SESSIONS, self.session)
        if ended is None or ended["state"] not in tables.ENDED:
            raise Interrupted
        return ended

    def serve(self, ready: Callable[[], None]) -> None:
        """Runs the alliance, whatever sessions it is told to start, until `interrupt`; `ready` is called once, when the
        services are up. A seed is made if there is no model to start from. Raises `Interrupted` if it is not done."""
        if next(self.blobs.list(keys.ALL_MODELS), None) is None:
            self._seed()
        self._start_services()
        self.scheduler.post(ready)
        self.scheduler.run()
        self._stop_services()

    def interrupt(self) -> None:
        """Makes `train` or `serve` end soon, also one that has yet to begin; safe from other threads."""
        self._interrupted.set()
        self.scheduler.post(self.scheduler.stop)

    def _seed(self) -> str:
        """The id of the first model, made by the package's trainer unless the policy names one."""
        if self.policy.seed is not None:
            return self.policy.seed
        results: queue.SimpleQueue[Result] = queue.SimpleQueue()

        job = Job(
            id="init", client=self._client("init", ("train", "validate"), 0), package=self.options.package,
            kind="init", config=self.policy.train, timeout=INIT_TIMEOUT, seed=self._random_seed,
        )  # fmt: skip
        self._pool.submit(job, lambda _: None, lambda *_: None, results.put)
        result = self._wait_for(results)
        if result.outcome != "done" or result.update is None:
            raise ConfigError(f"the package's init made no model: {result.reason}\n{result.traceback}".rstrip())
        data = result.update if isinstance(result.update, bytes) else result.update.read_bytes()
        name = keys.seed_model(hashlib.sha256(data).hexdigest())
        self.blobs.put(keys.model_blob(name), data)
        return name

    def _wait_for(self, results: queue.SimpleQueue[Result]) -> Result:
        while not self._interrupted.is_set():
            with contextlib.suppress(queue.Empty):
                return results.get(timeout=0.1)
        raise Interrupted

    @property
    def _random_seed(self) -> int:
        assert self.policy.random_seed is not None
        return self.policy.random_seed

    # -- services ---------------------------------------------------------------------------------------------------

    def _start_services(self) -> None:
        options, root = self.options, self.options.state_dir
        presence = PRESENCE if options.workers else INLINE_PRESENCE
        scratch = (root or Path(".")) / "scratch"
        common: dict[str, Any] = {"scheduler": self.scheduler, "topology": self.topology, "new_id": _new_id}
        self._observe()
        self._recorder = Recorder(
            self.broker.connect("recorder"), self.scheduler, self.topology, self.records, offload=False
        )
        self._recorder.start()
        self._stack.callback(self._recorder.stop)
        reducer = reducer_actor(
            "sandbox", self.broker.connect("reducer"), blobs=self.blobs, records=self.records, scratch=scratch,
            presence=presence, partitions=options.clients, **common,
        )  # fmt: skip
        self._run_actor(reducer)
        if root is not None:
            core = reducer.core
            assert isinstance(core, ReducerCore)
            self._vitals = SystemMonitor(
                self.scheduler, self.records, self.blobs, self.broker.depths, folder=root, is_active=lambda: True,
                waits=core.waits,
            )  # fmt: skip
            self._vitals.start()
        for number in range(1, options.combiners + 1):
            name = f"combiner{number}"
            combiner = combiner_actor(
                name, self.broker.connect(name), blobs=self.blobs, scratch=scratch / name, presence=presence, **common
            )
            self._run_actor(combiner)
        for number in range(options.clients):
            self._start_client(f"client{number + 1}", ("train", "validate"), number, common)
        if options.evaluator:
            self._start_client(EVALUATOR, ("validate",), 0, common)

    def _stop_services(self) -> None:
        """The actors, once the reducer has let go what the session does not keep; and then the recorder, as soon as it was
        handed all that they told."""
        while not (self._interrupted.is_set() or self._actors[0].idle):
            self.scheduler.later(LOOK_AGAIN, self.scheduler.stop)
            self.scheduler.run()
        for actor in reversed(self._actors):
            actor.stop()
        while self.broker.ready(self.topology.records().name):
            self.scheduler.post(self.scheduler.stop)
            self.scheduler.run()
        self._recorder.stop()
        if self._vitals is not None:
            self._vitals.stop()
            self._vitals.look(self.scheduler.wall(), {}, with_stores=True)

    def _start_client(self, name: str, tasks: tuple[TaskName, ...], number: int, common: dict[str, Any]) -> None:
        root = self.options.state_dir
        store: Store = FolderStore(root / "clients" / name / "finished") if root else MemoryStore()
        models = Models(root / "clients" / name / "models") if root else self._models
        client = self._client(name, tasks, number)
        attach = Attach(tasks=tasks, labels=dict(client.labels), package=self._package_sha256)
        actor = client_actor(
            client, attach, self.options.package, self.broker.connect(name),
            pool=self._pool, store=store, models=models, **common,
        )  # fmt: skip
        self._run_actor(actor)

    def _client(self, name: str, tasks: tuple[str, ...], ordinal: int) -> Client:
        root = self.options.state_dir
        labels = {label: values[ordinal % len(values)] for label, values in self.options.labels.items()}
        return Client(
            name=name,
            ordinal=ordinal,
            count=self.options.clients,
            device=self.options.device,
            state_dir=(root or Path(".")) / "clients" / name,
            tasks=tasks,
            random_seed=self._random_seed,
            dirichlet=self.options.dirichlet,
            labels=labels if "train" in tasks else {},
            form=self.options.form,
            python_env=self.options.python_env,
        )

    def _run_actor(self, actor: Actor) -> None:
        self._actors.append(actor)
        self.scheduler.post(actor.start)

    def _observe(self) -> None:
        connection = self.broker.connect("observer")
        queue = self.topology.observer("sandbox", "event.#" if self.on_event else "event.*.session.#")

        def tell(envelope: Envelope, event: Event) -> None:
            if self.on_event is not None:
                self.on_event(envelope, event)
            if event.session == self.session and event.name in _ENDINGS:
                self.scheduler.post(self.scheduler.stop)

        self.scheduler.post(lambda: observe(connection, queue, self.options.alliance, tell))

    def _start_when_attached(self, policy: Policy) -> None:
        """Publishes the start message once all clients are there, so that the first draw is among all of them."""
        wanted = self.options.clients + self.options.evaluator
        connection = self.broker.connect("sandbox")

        def look() -> None:
            if self.records.count(tables.CLIENTS, {"state": "present"}) < wanted:
                self.scheduler.later(LOOK_AGAIN, look)
                return
            envelope = Envelope(
                kind="start", id=self.session, alliance=self.options.alliance, sender="sandbox",
                sent_at=self.scheduler.wall(),
            )  # fmt: skip
            body = codec.encode(envelope.model_dump(), Start(policy=policy).model_dump())
            exchange = self.topology.exchange("control")
            connection.publish(Outgoing(exchange, control_key("start"), body, envelope.id), lambda _: None)

        self.scheduler.post(look)


_ENDINGS = {f"session.{state}" for state in tables.ENDED} | {"session.refused"}


_LIFE = uuid.uuid4().hex[:12]
_numbers = itertools.count()


def _new_id() -> str:
    """Unique: this process's life, and a number in it."""
    return f"{next(_numbers):08x}{_LIFE}"


@contextlib.contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    """One sandbox at a time in a state directory. The lock goes with the process."""
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another sandbox is running in {state_dir}") from None
        yield
