"""Virtual time, and the processes in it with their links to one broker."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fedmq.brokers.base import Connection, Delivery, OnConfirm, OnDelivery, OnError, OnReconnect, Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.brokers.memory.connection import MemoryConnection
from fedmq.errors import FedMQError, Transient
from fedmq.scheduler import Callback, OnWorkDone, Timer, VirtualScheduler, run_work
from fedmq_schemas.topology import Queue
from support.world.faults import Crash, FaultAtStep, Network, Stall, StoreFaults
from support.world.stores import WorldBlobs, WorldRecords

HEARTBEAT_SECONDS = 10.0
"""A process that says nothing for so long is cut off by the broker."""


class World:
    """Virtual time, one broker, one blob store, one record store, and the processes on them.

    `work_seconds`: the longest that work off an actor's thread takes. `restart` is called when a process that crashed
    is due again, `on_publish` with every message that a process sends, `on_settle` with the deliveries that a process
    acknowledges, rejects or requeues. `clocks`: by how many seconds the wall clocks of processes are off, by name.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        blobs_weather: StoreFaults | None = None,
        records_weather: StoreFaults | None = None,
        work_seconds: float = 0.05,
    ) -> None:
        self.source = random.Random(seed)
        self.scheduler = VirtualScheduler()
        self.network = Network(random.Random(seed + 1), self.scheduler.now)
        self.broker = MemoryBroker(self.scheduler, self.network)
        self.blobs = WorldBlobs(self.call, self.scheduler.wall, blobs_weather or StoreFaults())
        self.records = WorldRecords(self.call, self.wall, records_weather or StoreFaults())
        self.work_seconds = work_seconds
        self.running: Process | None = None
        self.clocks: dict[str, float] = {}
        self.processes: list[Process] = []
        self.restart: Callable[[str], object] = lambda name: None
        self.on_publish: Callable[[Process, Outgoing], object] = lambda process, message: None
        self.on_settle: Callable[[Process, str, Sequence[int]], object] = lambda process, how, tags: None
        self.due_again: set[str] = set()
        self.steps: dict[str, int] = {}
        self._ambushes: dict[tuple[str, int], FaultAtStep] = {}
        self._stalls: list[Stall] = []
        self._ids = 0

    def close(self) -> None:
        self.records.close()

    def new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:012d}"

    def wall(self) -> float:
        """The wall clock of the running process."""
        return self.scheduler.wall() if self.running is None else self.running.wall()

    def process(self, name: str) -> Process:
        process = Process(self, name)
        self.processes.append(process)
        return process

    def alive(self, name: str) -> list[Process]:
        return [process for process in self.processes if process.name == name and process.is_alive]

    # -- blows ------------------------------------------------------------------------------------------------------

    def ambush(self, ambushes: Iterable[FaultAtStep]) -> None:
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
    def call(self, what: str, weather: StoreFaults, patient: Collection[str] = ()) -> Iterator[None]:
        """Surrounds a store's work with steps and with what the weather brings to all but the `patient`."""
        self.step()
        self._stand_still(what)
        running = self.running
        troubled = running is not None and running.name not in patient and self.scheduler.now() < weather.until
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
        return self.world.scheduler.wall() + self.world.clocks.get(self.name, 0.0)

    def post(self, callback: Callback) -> None:
        self.world.scheduler.post(self.guard(callback))

    def later(self, seconds: float, callback: Callback) -> Timer:
        return self.world.scheduler.later(seconds, self.guard(callback))

    def submit(self, work: Callable[[], Any], done: OnWorkDone) -> None:
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

    @property
    def connected(self) -> bool:
        return self.inner.connected

    @property
    def silent(self) -> float:
        return self.inner.silent

    @property
    def blocked(self) -> str:
        return self.inner.blocked

    @property
    def unserved(self) -> str:
        return self.inner.unserved

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
            on_written = on_confirm

            def confirmed(error: FedMQError | None) -> None:
                self.process.run(lambda: on_written(error))

            self.inner.publish(message, confirmed)
        self.process.world.step()

    def consume(self, queue_name: str, prefetch: int, on_delivery: OnDelivery) -> None:
        self.process.world.step()

        def delivered(delivery: Delivery) -> None:
            self.process.run(lambda: on_delivery(delivery))

        self.inner.consume(queue_name, prefetch, delivered)

    def retire(self, queue: Queue, prefetch: int, on_delivery: OnDelivery) -> None:
        def delivered(delivery: Delivery) -> None:
            self.process.run(lambda: on_delivery(delivery))

        self.inner.retire(queue, prefetch, delivered)

    def cancel(self, queue_name: str) -> None:
        self.inner.cancel(queue_name)

    def ack(self, tags: list[int]) -> None:
        self.process.world.step()
        self.process.world.on_settle(self.process, "ack", tags)
        self.inner.ack(tags)
        self.process.world.step()

    def reject(self, tag: int, reason: str) -> None:
        self.process.world.step()
        self.process.world.on_settle(self.process, f"reject ({reason})", [tag])
        self.inner.reject(tag, reason)

    def requeue(self, tag: int) -> None:
        self.process.world.step()
        self.process.world.on_settle(self.process, "requeue", [tag])
        self.inner.requeue(tag)

    def close(self, timeout: float = 5.0) -> None:
        self.inner.close(timeout)

    def kill(self) -> None:
        self.inner.kill()
