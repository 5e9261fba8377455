"""One process of a distributed alliance: its scheduler, its members, its signals, its health page.

SIGTERM and SIGINT drain: no member receives anything new, and work under way is finished, or its messages returned to
their queues, in at most ten seconds. A second signal ends the process at once.
"""

from __future__ import annotations

import itertools
import logging
import mmap
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from fedmq import __version__
from fedmq.brokers.base import Connection
from fedmq.process.exposure import open_port
from fedmq.process.logs import configure_service_logs
from fedmq.process.settings import AllianceSettings
from fedmq.process.signals import on_first_signal
from fedmq.process.stall_watch import BROKER, Report, StallWatch, broker_state
from fedmq.process.store_check import StoreCheck
from fedmq.process.traces import open_traces
from fedmq.runtime.actor import Observe
from fedmq.runtime.effects import PublishEvent
from fedmq.runtime.spans import OpenSpans
from fedmq.runtime.stalls import Stalls, describe, since
from fedmq.runtime.telemetry import ActorTelemetry
from fedmq.scheduler import ThreadScheduler
from fedmq.tls import trust
from fedmq.web import families
from fedmq.web.access import Access
from fedmq.web.families import Family, Sample
from fedmq.web.health import HealthServer

log = logging.getLogger("fedmq.process.service")

DRAIN_SECONDS = 8.0
CLOSE_SECONDS = 1.5
ANSWER_SECONDS = 2.0

Details = Callable[[], Mapping[str, Any]]
Gauges = Callable[[], Mapping[Family, float]]
Missing = Callable[[], str]


class Member(Protocol):
    """What a service runs. All calls are made on the scheduler's thread."""

    def start(self) -> None:
        """Starts to receive and to work."""

    def drain(self, then: Callable[[], None]) -> None:
        """Receives nothing new, announces that it leaves, and calls `then` once nothing is under way."""

    def leave(self, timeout: float) -> None:
        """Closes its connection when all is confirmed, or after `timeout` seconds. Unsettled messages return."""


class Service:
    """A process with a scheduler, on which its members run. Pass `telemetry` to the actor as its `observe`, and `stalls`."""

    def __init__(self, role: str, name: str, settings: AllianceSettings, *, threads: int = 8) -> None:
        configure_service_logs(settings.log_level, role=role, name=name)
        trust(settings.ca_file)
        self.role = role
        self.name = name
        self.settings = settings
        self._access: Access | None = None
        if settings.health_port is not None:
            self._access = open_port(settings, settings.health_bind, "FEDN_HEALTH_BIND", (role,))
        self.scheduler = ThreadScheduler(threads)
        self.telemetry = ActorTelemetry()
        self.stalls = Stalls(self.scheduler.wall)
        self.stack = ExitStack()
        self.members: list[Member] = []
        self._began = time.monotonic()
        self._began_at = self.scheduler.wall()
        self._life = uuid.uuid4().hex[:12]
        self._numbers = itertools.count()
        self._draining = 0
        self._connections: Sequence[Connection] = ()
        self._stores: list[str] = []

    def new_id(self) -> str:
        """Returns a unique id: a number, and the id of this process."""
        return f"{next(self._numbers):08x}{self._life}"

    def tracing(self, url: str | None, observer: Callable[[OpenSpans], Observe]) -> list[Observe]:
        """Returns what observes the role's actor for traces: nothing if there is no `url`. `observer` makes it.

        Raises ConfigError if there is one and OpenTelemetry is not installed.
        """
        if url is None:
            return []
        alliance = self.settings.alliance
        export = open_traces(url, role=self.role, name=self.name, alliance=alliance)
        self.stack.callback(export.close)
        return [observer(OpenSpans(alliance, self.scheduler.wall, export))]

    def report_store(self, store: str) -> None:
        """Reports from now on in `/health`, `/ready` and `/metrics` whether this store stalls the role."""
        self._stores.append(store)

    def check_store(self, store: str, server: str, request: Callable[[], object]) -> None:
        """Checks from now on that a store answers; see `StoreCheck`."""
        self.report_store(store)
        check = StoreCheck(store, server, request, self.stalls)
        self.stack.callback(check.stop)
        check.start()

    def run(
        self,
        members: Sequence[Member],
        *,
        connections: Sequence[Connection] = (),
        details: Details = dict,
        gauges: Gauges = dict,
        missing: Missing = str,
        report: Report | None = None,
        on_stall: Callable[[], None] = lambda: None,
    ) -> None:
        """Runs the members in the calling thread until a signal arrives, or an error ends the service; closes `stack`.

        - `connections`: those to the broker, the actor's own first.
        - `details()` returns what `/health` reports of this role, and `gauges()` numbers for `/metrics`.
        - `missing()` returns what the role needs before it is ready; empty if it is.
        - `report` publishes the events of stalls; `on_stall` is called when a stall has begun or ended.
        """
        self.members = list(members)
        self._connections = connections
        combiner = self.name if self.role == "combiner" else None
        watch = StallWatch(
            self.scheduler,
            self.stalls,
            connections,
            f"{self.role} {self.name}",
            combiner=combiner,
            report=report and self._counted(report),
            on_change=on_stall,
        )
        with self.stack:
            self._serve_health(details, gauges, missing)
            self.scheduler.post(watch.look)
            for member in self.members:
                self.scheduler.post(member.start)
            log.info("started", extra={"version": __version__, "pid": os.getpid()})
            try:
                with on_first_signal([signal.SIGINT, signal.SIGTERM], lambda: self.scheduler.post(self.drain)):
                    self.scheduler.run()
            finally:
                for member in reversed(self.members):
                    member.leave(CLOSE_SECONDS / len(self.members))
                self.scheduler.close()
        log.info("ended")

    def _counted(self, report: Report) -> Report:
        def count(event: PublishEvent) -> None:
            self.telemetry.events[event.name] += 1
            report(event)

        return count

    def drain(self) -> None:
        """Drains the members, then ends the service, after at most 8 seconds. On the scheduler's thread."""
        log.info("draining")
        self.scheduler.later(DRAIN_SECONDS, self.scheduler.stop)
        self._draining = len(self.members)
        for member in self.members:
            member.drain(self._drained)

    def _drained(self) -> None:
        self._draining -= 1
        if self._draining == 0:
            self.scheduler.stop()

    # -- health -----------------------------------------------------------------------------------------------------

    def _serve_health(self, details: Details, gauges: Gauges, missing: Missing) -> None:
        settings = self.settings
        if settings.health_port is not None:
            server = HealthServer(
                settings.health_bind,
                settings.health_port,
                lambda: self._health(details),
                lambda: self._readiness(missing),
                lambda: self._samples(gauges),
                self._access,
            )
            self.stack.callback(server.close)

    def _health(self, details: Details) -> tuple[bool, Mapping[str, Any]]:
        """Returns whether the scheduler's thread answers, and a report. A lost broker is no reason to restart."""
        answered = threading.Event()
        self.scheduler.post(answered.set)
        well = answered.wait(ANSWER_SECONDS)
        return well, {
            "status": "ok" if well else f"its thread has not answered for {ANSWER_SECONDS:g} s",
            "role": self.role,
            "name": self.name,
            "alliance": self.settings.alliance,
            "version": __version__,
            "uptime": round(time.monotonic() - self._began, 1),
            **self._servers(),
            **details(),
        }

    def _servers(self) -> dict[str, str]:
        """Returns the state of the broker and of each store; of a stall, its reason and since when."""
        states = {}
        if self._connections:
            in_trouble = (each for each in self._connections if broker_state(each) != "connected")
            state, stall = broker_state(next(in_trouble, self._connections[0])), self.stalls.of(BROKER)
            states[BROKER] = state if state == "connected" or stall is None else f"{state}, {since(stall)}"
        for store in self._stores:
            stall = self.stalls.of(store)
            states[store] = "ok" if stall is None else describe(stall)
        return states

    def _readiness(self, missing: Missing) -> tuple[bool, Mapping[str, Any]]:
        """Returns whether the role can do its work now, and what it lacks."""
        lacks = [f"{name}: {state}" for name, state in self._servers().items() if state not in ("connected", "ok")]
        lacks += filter(None, [missing()])
        return not lacks, {"ready": not lacks, "role": self.role, "name": self.name, "lacks": lacks}

    def _samples(self, gauges: Gauges) -> Iterator[Sample]:
        yield Sample(families.INFO, 1, {"role": self.role, "name": self.name, "version": __version__})
        yield Sample(families.UPTIME, time.monotonic() - self._began)
        yield Sample(families.START_TIME, self._began_at)
        yield Sample(families.CPU, time.process_time())
        if (resident := _resident_bytes()) is not None:
            yield Sample(families.MEMORY, resident)
        telemetry = self.telemetry
        for family, counts in (
            (families.RECEIVED, telemetry.received),
            (families.PUBLISHED, telemetry.published),
            (families.EVENTS, telemetry.events),
        ):
            [label] = family.labels
            for value, count in list(counts.items()):
                yield Sample(family, count, {label: value})
        for (effect, store), count in list(self.stalls.retries.items()):
            yield Sample(families.RETRIES, count, {"effect": effect, "store": store})
        if self._connections:
            yield Sample(families.BROKER_CONNECTED, all(connection.connected for connection in self._connections))
            yield Sample(families.BROKER_BLOCKED, any(connection.blocked for connection in self._connections))
        for store in self._stores:
            yield Sample(families.STORE_UP, self.stalls.of(store) is None, {"store": store})
        for family, number in gauges().items():
            yield Sample(family, number)


def _resident_bytes() -> int | None:
    """Returns how much of this process's memory is in RAM; None where the system has no /proc to read it from."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE
    except OSError:
        return None
