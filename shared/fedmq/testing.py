"""A world in virtual time: processes that can be killed, paused and cut off, stores and a network that fail.

The broker, the blobs and the records are the embedded adapters; the actors are the real ones. What a test adds is a
list of `Ambush`es (a process meets its fate at its n-th step) and calls of `World` at chosen times. A step is any call
of a port, counted before and after it: between two effects, and between an effect and the word that it is done, lies a
step. Everything is deterministic: the same calls give the same run, to the last callback.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from fedmq.blobs.base import BlobInfo, Source
from fedmq.blobs.memory import MemoryBlobs
from fedmq.brokers.base import Connection, Delivery, OnConfirm, OnDelivery, OnError, OnReconnect, Outgoing
from fedmq.brokers.memory import MemoryBroker, MemoryConnection
from fedmq.errors import FedMQError, Transient
from fedmq.records.base import Document, Lease, Records
from fedmq.records.sqlite import SqliteRecords
from fedmq.scheduler import Callback, Done, Timer, VirtualScheduler, run_work
from fedmq_schemas.messages import BlobRef
from fedmq_schemas.topology import Queue

HEARTBEAT_SECONDS = 10.0
"""A process that says nothing for so long is cut off by the broker."""

NO_FAULT = (0.0,)


class Crash(BaseException):
    """Ends the running process at once. Not an Exception: no code under test may catch it."""


@dataclass(frozen=True, slots=True)
class Ambush:
    """What happens to a process at its `step`-th step, counted over all its lives.

    crash: it dies, and is started again `seconds` later. pause: it stands still for `seconds` (SIGSTOP). cut: its link
    to the broker breaks for `seconds`.
    """

    process: str
    step: int
    kind: Literal["crash", "pause", "cut"]
    seconds: float


@dataclass(frozen=True, slots=True)
class Stall:
    """A process stands still for `seconds` just before its first store call whose name begins with `call` ("insert
    rounds"); the call takes place when it goes on."""

    process: str
    call: str
    seconds: float


@dataclass(slots=True)
class Network:
    """The `Faults` of a `MemoryBroker`, from a seeded source: of each message `delays`, `duplicates` and `losses` are
    the probabilities, until the time `until`; `longest` bounds how late a copy is."""

    source: random.Random
    now: Callable[[], float]
    delays: float = 0.0
    duplicates: float = 0.0
    losses: float = 0.0
    longest: float = 5.0
    until: float = float("inf")

    def on_publish(self, message: Outgoing) -> Sequence[float]:
        if self.now() >= self.until:
            return NO_FAULT
        chance = self.source.random()
        if chance < self.losses:
            return ()
        chance -= self.losses
        if chance < self.duplicates:
            return (0.0, self.source.random() * self.longest)
        return (self.source.random() * min(self.longest, 2.0),) if chance - self.duplicates < self.delays else NO_FAULT


@dataclass(slots=True)
class Weather:
    """When a store is away: in these spans of time each call is `Transient`, and elsewhere with probability `flakes`,
    half of the time after the call has done its work."""

    spans: tuple[tuple[float, float], ...] = ()
    flakes: float = 0.0
    until: float = float("inf")

    def is_away(self, now: float) -> bool:
        return any(start <= now < end for start, end in self.spans)


class World:
    """Virtual time, one broker, one blob store, one record store, and the processes on them.

    `work_seconds`: the longest that work off an actor's thread takes. `restart` is called when a process that crashed
    is due again, `on_publish` with every message that a process sends.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        blobs_weather: Weather | None = None,
        records_weather: Weather | None = None,
        work_seconds: float = 0.05,
    ) -> None:
        self.source = random.Random(seed)
        self.scheduler = VirtualScheduler()
        self.network = Network(random.Random(seed + 1), self.scheduler.now)
        self.broker = MemoryBroker(self.scheduler, self.network)
        self.blobs = WorldBlobs(self, blobs_weather or Weather())
        self.records = WorldRecords(self, records_weather or Weather())
        self.work_seconds = work_seconds
        self.running: Process | None = None
        self.processes: list[Process] = []
        self.restart: Callable[[str], object] = lambda name: None
        self.on_publish: Callable[[Process, Outgoing], object] = lambda process, message: None
        self.due_again: set[str] = set()
        self.steps: dict[str, int] = {}
        self._ambushes: dict[tuple[str, int], Ambush] = {}
        self._stalls: list[Stall] = []
        self._ids = 0

    def close(self) -> None:
        self.records.close()

    def new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:012d}"

    def process(self, name: str) -> Process:
        process = Process(self, name)
        self.processes.append(process)
        return process

    def alive(self, name: str) -> list[Process]:
        return [process for process in self.processes if process.name == name and process.is_alive]

    # -- blows ------------------------------------------------------------------------------------------------------

    def ambush(self, ambushes: Iterable[Ambush]) -> None:
        for ambush in ambushes:
            self._ambushes[ambush.process, ambush.step] = ambush

    def stall(self, stalls: Iterable[Stall]) -> None:
        self._stalls += stalls

    def call_off(self) -> None:
        """No more ambushes, and a network and stores without faults; who is down still comes back."""
        self._ambushes.clear()
        self._stalls.clear()
        self.network.until = self.blobs.weather.until = self.records.weather.until = 0.0

    def crash(self, name: str, seconds: float | None) -> None:
        """Kills every process of that name; None: for good."""
        for process in self.alive(name):
            process.kill()
        if seconds is not None and name not in self.due_again:
            self.due_again.add(name)
            self.scheduler.later(seconds, lambda: self._start_again(name))

    def _start_again(self, name: str) -> None:
        self.due_again.discard(name)
        if not self.alive(name):
            self.restart(name)

    def step(self) -> None:
        """Called by the ports, before and after each call."""
        process = self.running
        if process is None:
            return
        if not process.is_alive:
            raise Crash
        count = self.steps[process.name] = self.steps.get(process.name, 0) + 1
        ambush = self._ambushes.pop((process.name, count), None)
        if ambush is None:
            return
        if ambush.kind == "pause":
            process.pause(ambush.seconds)
        elif ambush.kind == "cut":
            self.scheduler.post(lambda: process.cut(ambush.seconds))
        else:
            self.crash(process.name, ambush.seconds)
            raise Crash

    def _stand_still(self, what: str) -> None:
        process = self.running
        for stall in self._stalls:
            if process is not None and stall.process == process.name and what.startswith(stall.call):
                self._stalls.remove(stall)
                process.pause(stall.seconds)
                raise Transient(f"{what}: the process stands still")

    @contextmanager
    def call(self, what: str, weather: Weather) -> Iterator[None]:
        """Surrounds a store's work with steps and with what the weather brings."""
        self.step()
        self._stand_still(what)
        troubled = self.running is not None and self.scheduler.now() < weather.until
        if troubled and weather.is_away(self.scheduler.now()):
            raise Transient(f"{what}: the store is away")
        flake = troubled and weather.flakes > 0 and self.source.random() < weather.flakes
        if flake and self.source.random() < 0.5:
            raise Transient(f"{what}: no answer, nothing done")
        yield
        self.step()
        if flake:
            raise Transient(f"{what}: no answer, though it is done")


class Process:
    """A process: its own view of the scheduler, which ends with it, and its links to the broker.

    It implements the `Scheduler` port. Whatever enters the process enters through `guard`.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_alive = True
        self.links: list[Link] = []
        self._paused_until = 0.0
        self._backlog: list[Callback] = []

    def connect(self, name: str) -> Link:
        link = Link(self, self.world.broker.connect(name))
        self.links.append(link)
        return link

    # -- life -------------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        self.is_alive = False
        self._backlog.clear()
        for link in self.links:
            link.inner.kill()

    def pause(self, seconds: float) -> None:
        """Stands still; what comes in waits. After a while the broker gives up on it."""
        until = self.world.scheduler.now() + seconds
        if not self.is_alive or until <= self._paused_until:
            return
        self._paused_until = until
        self.world.scheduler.later(seconds, self._wake)
        if seconds > HEARTBEAT_SECONDS:
            rest = seconds - HEARTBEAT_SECONDS + 0.01
            self.world.scheduler.later(HEARTBEAT_SECONDS, lambda: self.cut(rest))

    def cut(self, seconds: float) -> None:
        if self.is_alive:
            for link in self.links:
                self.world.broker.break_connection(link.inner, seconds)

    @property
    def is_paused(self) -> bool:
        return self.world.scheduler.now() < self._paused_until

    def _wake(self) -> None:
        if not self.is_alive or self.is_paused:
            return
        backlog, self._backlog = self._backlog, []
        for number, callback in enumerate(backlog):
            if self.is_paused:
                self._backlog = backlog[number:] + self._backlog
                return
            self.run(callback)

    def run(self, callback: Callback) -> None:
        """Runs what comes into the process; it may die of it."""
        if not self.is_alive:
            return
        if self.is_paused:
            self._backlog.append(callback)
            return
        outer, self.world.running = self.world.running, self
        try:
            callback()
        except Crash:
            if self.is_alive:
                raise
        finally:
            self.world.running = outer

    def guard(self, callback: Callback) -> Callback:
        return lambda: self.run(callback)

    # -- the scheduler port -----------------------------------------------------------------------------------------

    def now(self) -> float:
        return self.world.scheduler.now()

    def wall(self) -> float:
        return self.world.scheduler.wall()

    def post(self, callback: Callback) -> None:
        self.world.scheduler.post(self.guard(callback))

    def later(self, seconds: float, callback: Callback) -> Timer:
        return self.world.scheduler.later(seconds, self.guard(callback))

    def submit(self, work: Callable[[], Any], done: Done) -> None:
        """The work takes place, and is reported, some time later."""
        source, longest = self.world.source, self.world.work_seconds
        self.later(source.random() * longest, lambda: void(self.later(source.random() * longest, run_work(work, done))))


def void(_: object) -> None:
    """For a lambda that must return None."""


@dataclass(eq=False)
class Link(Connection):
    """A process's connection: every call is a step, and everything that comes in is guarded."""

    process: Process
    inner: MemoryConnection
    on_error: OnError | None = None
    _on_reconnect: OnReconnect | None = field(default=None, repr=False)

    @property
    def on_reconnect(self) -> OnReconnect | None:
        return self._on_reconnect

    @on_reconnect.setter
    def on_reconnect(self, callback: OnReconnect | None) -> None:
        self._on_reconnect = callback
        self.inner.on_reconnect = None if callback is None else self.process.guard(callback)

    def declare(self, queue: Queue) -> None:
        self.process.world.step()
        self.inner.declare(queue)

    def delete(self, queue_name: str) -> None:
        self.process.world.step()
        self.inner.delete(queue_name)

    def publish(self, message: Outgoing, on_confirm: OnConfirm | None = None) -> None:
        self.process.world.step()
        self.process.world.on_publish(self.process, message)
        if on_confirm is None:
            self.inner.publish(message)
        else:
            told = on_confirm

            def confirmed(error: FedMQError | None) -> None:
                self.process.run(lambda: told(error))

            self.inner.publish(message, confirmed)
        self.process.world.step()

    def consume(self, queue_name: str, prefetch: int, on_delivery: OnDelivery) -> None:
        self.process.world.step()

        def delivered(delivery: Delivery) -> None:
            self.process.run(lambda: on_delivery(delivery))

        self.inner.consume(queue_name, prefetch, delivered)

    def cancel(self, queue_name: str) -> None:
        self.inner.cancel(queue_name)

    def ack(self, tags: list[int]) -> None:
        self.process.world.step()
        self.inner.ack(tags)
        self.process.world.step()

    def reject(self, tag: int, reason: str) -> None:
        self.process.world.step()
        self.inner.reject(tag, reason)

    def requeue(self, tag: int) -> None:
        self.process.world.step()
        self.inner.requeue(tag)

    def close(self, timeout: float = 5.0) -> None:
        self.inner.close(timeout)

    def kill(self) -> None:
        self.inner.kill()


class WorldBlobs(MemoryBlobs):
    """Blobs that fail as a server does. Reads by processes in `patient` never do: their transfers try again by
    themselves until their time is up, which virtual time cannot show. `deleted`: what was there and is deleted, for those
    who look at a run afterwards."""

    def __init__(self, world: World, weather: Weather) -> None:
        super().__init__(clock=lambda: world.scheduler.wall())
        self._world = world
        self.weather = weather
        self.patient: frozenset[str] = frozenset()
        self.deleted: dict[str, bytes] = {}
        self._calm = Weather()

    def put(self, key: str, source: Source) -> BlobRef:
        with self._world.call(f"put {key}", self.weather):
            return super().put(key, source)

    def get(self, key: str) -> bytes:
        running = self._world.running
        is_patient = running is not None and running.name in self.patient
        with self._world.call(f"get {key}", self._calm if is_patient else self.weather):
            return super().get(key)

    def read(self, key: str, offset: int, length: int) -> bytes:
        with self._world.call(f"read {key}", self.weather):
            return super().read(key, offset, length)

    def stat(self, key: str) -> BlobInfo:
        with self._world.call(f"stat {key}", self.weather):
            return super().stat(key)

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        with self._world.call(f"list {prefix}", self.weather):
            found = [*super().list(prefix)]
        return iter(found)

    def delete(self, key: str) -> None:
        with self._world.call(f"delete {key}", self.weather):
            if self.holds(key):
                self.deleted[key] = super().get(key)
            super().delete(key)

    def holds(self, key: str) -> bool:
        """Whether the blob is there now; never fails."""
        return key in self._blobs

    def ever(self, key: str) -> bytes:
        """The blob as it is, or was before it was deleted; never fails for want of a server."""
        return super().get(key) if self.holds(key) else self.deleted[key]


class WorldRecords(Records):
    """Records in SQLite's memory that fail as a server does. `on_write(table, key, old, new)` is told every change of a
    document by `insert`, `put` and `update`."""

    def __init__(self, world: World, weather: Weather) -> None:
        self.inner = SqliteRecords(":memory:", clock=lambda: world.scheduler.wall())
        self._world = world
        self.weather = weather
        self.on_write: Callable[[str, str, Document | None, Mapping[str, Any]], None] = lambda *_: None

    def insert(self, table: str, key: str, document: Mapping[str, Any], fence: int | None = None) -> Document | None:
        with self._world.call(f"insert {table} {key}", self.weather):
            existing = self.inner.insert(table, key, document, fence)
            if existing is None:
                self.on_write(table, key, None, document)
        return existing

    def put(self, table: str, key: str, document: Mapping[str, Any], fence: int | None = None) -> None:
        with self._world.call(f"put {table} {key}", self.weather):
            old = self.inner.get(table, key)
            self.inner.put(table, key, document, fence)
            self.on_write(table, key, old, document)

    def update(self, table: str, key: str, fields: Mapping[str, Any], fence: int | None = None) -> None:
        with self._world.call(f"update {table} {key}", self.weather):
            old = self.inner.get(table, key)
            self.inner.update(table, key, fields, fence)
            self.on_write(table, key, old, {**(old or {}), **fields})

    def put_many(self, table: str, items: Iterable[tuple[str, Mapping[str, Any]]], fence: int | None = None) -> None:
        items = list(items)
        with self._world.call(f"put_many {table}", self.weather):
            old = [self.inner.get(table, key) for key, _ in items]
            self.inner.put_many(table, items, fence)
            for (key, document), before in zip(items, old, strict=True):
                self.on_write(table, key, before, document)

    def get(self, table: str, key: str) -> Document | None:
        with self._world.call(f"get {table} {key}", self.weather):
            return self.inner.get(table, key)

    def find(
        self,
        table: str,
        where: Mapping[str, Any] | None = None,
        *,
        order: str | None = None,
        descending: bool = False,
        limit: int | None = None,
        after: Any = None,
    ) -> Sequence[Document]:
        with self._world.call(f"find {table}", self.weather):
            return self.inner.find(table, where, order=order, descending=descending, limit=limit, after=after)

    def count(self, table: str, where: Mapping[str, Any] | None = None) -> int:
        with self._world.call(f"count {table}", self.weather):
            return self.inner.count(table, where)

    def delete(self, table: str, where: Mapping[str, Any]) -> int:
        with self._world.call(f"delete {table}", self.weather):
            return self.inner.delete(table, where)

    def acquire(self, holder: str, seconds: float) -> Lease | None:
        with self._world.call("acquire", self.weather):
            return self.inner.acquire(holder, seconds)

    def renew(self, lease: Lease, seconds: float) -> bool:
        with self._world.call("renew", self.weather):
            return self.inner.renew(lease, seconds)

    def release(self, lease: Lease) -> None:
        with self._world.call("release", self.weather):
            self.inner.release(lease)

    def close(self) -> None:
        self.inner.close()
