"""Counts what an actor does for `/metrics`, and logs it with the chain of messages that led to it."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence

from fedmq.runtime.effects import CoreEvent, Effect, Publish, PublishEvent, Received

log = logging.getLogger("fedmq.runtime.telemetry")

MAX_CAUSES = 2_000
MAX_CHAIN = 20


class ActorTelemetry:
    """Observes one actor: pass it as `observe`. Counts messages by kind, and published events by name.

    Each event is logged at level info, each received message at level debug. `causes` of a line are message ids: the
    message that led to the event, then the one that led to that message, as far back as this process has received them.
    """

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.published: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self._causes: OrderedDict[str, str | None] = OrderedDict()

    def __call__(self, event: CoreEvent, answer: Sequence[Effect], cause: str | None) -> None:
        """Counts and logs one step of the core; see `fedmq.runtime.actor.Observe`."""
        if isinstance(event, Received):
            self._count_received(event)
        for effect in answer:
            if isinstance(effect, Publish):
                self.published[effect.body.kind] += 1
            elif isinstance(effect, PublishEvent):
                self._log_event(effect, cause)

    def _count_received(self, event: Received) -> None:
        envelope = event.envelope
        self.received[envelope.kind] += 1
        self._causes[envelope.id] = envelope.cause
        if len(self._causes) > MAX_CAUSES:
            self._causes.popitem(last=False)
        if log.isEnabledFor(logging.DEBUG):
            extra = {"kind": envelope.kind, "id": envelope.id, "cause": envelope.cause, "sender": envelope.sender}
            log.debug("received", extra=extra)

    def _log_event(self, effect: PublishEvent, cause: str | None) -> None:
        self.events[effect.name] += 1
        if not log.isEnabledFor(logging.INFO) or effect.name == "task.progress":
            return
        about = {"session": effect.session, "round": effect.round, "client": effect.client, "combiner": effect.combiner}
        extra = {name: value for name, value in about.items() if value is not None}
        reason = effect.data.get("reason")
        log.info(effect.name, extra=extra | ({"reason": reason} if reason else {}) | {"causes": self._chain(cause)})

    def _chain(self, cause: str | None) -> list[str]:
        chain: list[str] = []
        while cause is not None and len(chain) < MAX_CHAIN:
            chain.append(cause)
            cause = self._causes.get(cause)
        return chain
