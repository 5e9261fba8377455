"""What an actor does, for operators: counted for `/metrics`, and logged with the chain of messages that led to it."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence

from fedmq.effects import CoreEvent, Effect, Publish, PublishEvent, Received
from fedmq.runtime import Actor

log = logging.getLogger("fedmq.journal")

KEPT = 2_000
LONGEST_CHAIN = 20


class Journal:
    """Observes one actor: pass it as `observe`, then give it the actor.

    `received`, `published` count messages by kind, `told` events by name. What an actor tells is logged at level info,
    each message that it receives at level debug. `causes` of a line are message ids: the one that led to it first, then
    the one that led to that, as far back as this process has seen them. Other processes' lines go on from there.
    """

    def __init__(self) -> None:
        self.actor: Actor | None = None
        self.received: Counter[str] = Counter()
        self.published: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self._causes: OrderedDict[str, str | None] = OrderedDict()

    def __call__(self, event: CoreEvent, answer: Sequence[Effect]) -> None:
        if isinstance(event, Received):
            self._note(event)
        for effect in answer:
            if isinstance(effect, Publish):
                self.published[effect.body.kind] += 1
            elif isinstance(effect, PublishEvent):
                self._tell(effect)

    def _note(self, event: Received) -> None:
        envelope = event.envelope
        self.received[envelope.kind] += 1
        self._causes[envelope.id] = envelope.cause
        if len(self._causes) > KEPT:
            self._causes.popitem(last=False)
        if log.isEnabledFor(logging.DEBUG):
            extra = {"kind": envelope.kind, "id": envelope.id, "cause": envelope.cause, "sender": envelope.sender}
            log.debug("received", extra=extra)

    def _tell(self, emit: PublishEvent) -> None:
        self.told[emit.name] += 1
        if not log.isEnabledFor(logging.INFO) or emit.name == "task.progress":
            return
        about = {"session": emit.session, "round": emit.round, "client": emit.client, "combiner": emit.combiner}
        extra = {name: value for name, value in about.items() if value is not None}
        reason = emit.data.get("reason")
        log.info(emit.name, extra=extra | ({"reason": reason} if reason else {}) | {"causes": self._chain()})

    def _chain(self) -> list[str]:
        chain: list[str] = []
        cause = self.actor.cause if self.actor is not None else None
        while cause is not None and len(chain) < LONGEST_CHAIN:
            chain.append(cause)
            cause = self._causes.get(cause)
        return chain
