"""Follows the stalls of a process, and reports the beginning and the end of each one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fedmq.brokers.base import Connection
from fedmq.runtime.effects import PublishEvent
from fedmq.runtime.stalls import Stalls, describe
from fedmq.scheduler import Scheduler
from fedmq_schemas.messages import Stall

log = logging.getLogger("fedmq.process.stall_watch")

PERIOD = 1.0
BROKER = "broker"

Report = Callable[[PublishEvent], None]


def broker_state(connection: Connection) -> str:
    """Returns `connected`, `away`, `blocked:` with the broker's reason, or `does not serve` with a queue's name."""
    if connection.blocked:
        return f"blocked: {connection.blocked}"
    if not connection.connected:
        return "away"
    return f"does not serve {connection.unserved}" if connection.unserved else "connected"


class StallWatch:
    """Looks at the connections and at `stalls` once a second, on the scheduler's thread.

    Logs each beginning and end of a stall. Publishes it with `report`, if there is one, as an event of `process`, which may
    be about `combiner`. While the broker is blocked or away these events wait. Calls `on_change` after each change.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        stalls: Stalls,
        connections: Sequence[Connection],
        process: str,
        *,
        combiner: str | None = None,
        report: Report | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._scheduler = scheduler
        self._stalls = stalls
        self._connections = connections
        self._about = process, combiner
        self._report = report
        self._on_change = on_change
        self._known: dict[str, Stall] = {}
        self._waiting: list[PublishEvent] = []
        """Events that wait for a connection: without one they would be lost, as no event is confirmed."""

    def look(self) -> None:
        """Looks now, and again a second later."""
        for connection in self._connections:
            if broker_state(connection) == "connected":
                self._stalls.end(connection)
            else:
                words = "there is no connection to the broker"
                if connection.blocked:
                    words = f"the broker accepts no messages ({connection.blocked})"
                elif connection.silent:
                    words = "the broker does not answer"
                elif connection.unserved:
                    words = f"the broker does not serve the queue {connection.unserved}"
                self._stalls.note(connection, BROKER, words, ago=connection.silent)
        known, self._known = self._known, {stall.store: stall for stall in self._stalls.current()}
        for store in self._known.keys() - known.keys():
            self._began(self._known[store])
        for store in known.keys() - self._known.keys():
            self._ended(known[store])
        if known != self._known:
            self._on_change()
        if self._report is not None and all(connection.connected for connection in self._connections):
            waiting, self._waiting = self._waiting, []
            for event in waiting:
                self._report(event)
        self._scheduler.later(PERIOD, self.look)

    def _began(self, stall: Stall) -> None:
        log.warning("stalled: %s", describe(stall))
        self._publish("stall.began", stall, {"effect": stall.effect, "since": stall.since})

    def _ended(self, stall: Stall) -> None:
        seconds = round(self._scheduler.wall() - stall.since, 1)
        log.warning("no longer stalled after %g s: %s", seconds, stall.reason)
        self._publish("stall.ended", stall, {"seconds": seconds})

    def _publish(self, name: str, stall: Stall, data: dict[str, object]) -> None:
        process, combiner = self._about
        about = {"process": process, "store": stall.store, "reason": stall.reason}
        self._waiting.append(PublishEvent(name, combiner=combiner, data=about | data))
