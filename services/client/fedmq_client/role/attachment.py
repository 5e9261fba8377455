"""A client's tie to its combiner: it requests one from the reducer, registers there, and reports its presence. Pure."""

from __future__ import annotations

from fedmq.runtime.effects import CancelTimer, Effect, Publish, StartTimer
from fedmq_client.role.operations import AssignPart
from fedmq_schemas import topology
from fedmq_schemas.messages import Attach, Body, ClientHello, ClientPresence, DuplicateClient, Grant

REQUEST_PERIOD = 10.0
REQUEST_SOON = 1.0
HELLO_SOON = 1.0


def publish_to(receiver: str, client: str, body: Body, *, confirm: bool = True) -> Publish:
    """Returns the effect by which `client` publishes to a combiner or to the reducer."""
    return Publish("update", topology.update_key(receiver, client), body, confirm=confirm)


class Attachment:
    """The combiner that was granted last, in `combiner`; None before. `attach` presents the client to the reducer."""

    def __init__(self, client: str, attach: Attach) -> None:
        self.combiner: str | None = None
        self._client = client
        self._attach = attach
        self._period = 10.0

    def request(self) -> list[Effect]:
        """Requests a combiner from the reducer, and again every ten seconds until an answer arrives."""
        key = topology.assignment_request_key(self._client)
        return [StartTimer("attach", REQUEST_PERIOD), Publish("assignment", key, self._attach)]

    def request_later(self, seconds: float = REQUEST_SOON) -> list[Effect]:
        """Requests a combiner in so many seconds."""
        return [StartTimer("attach", seconds)]

    def grant(self, grant: Grant) -> list[Effect]:
        """Registers with the granted combiner, the same one again too: the reducer may not know that it is present.

        Reports to the former combiner that it is no longer the client's. Work that it requested is still answered to it.
        """
        former = self.combiner
        self.combiner, self._period = grant.combiner, grant.presence
        moved = ClientPresence(leaving=True, reassigned=True, instance=self._attach.instance)
        return [
            CancelTimer("attach"),
            AssignPart(grant.ordinal, grant.count),
            *self._register(grant.combiner),
            *([self._to(former, moved, confirm=False)] if former is not None and former != grant.combiner else []),
        ]

    def reconnect(self) -> list[Effect]:
        """Registers and requests again: while the link was lost, a grant of another combiner may have been lost too."""
        return [*(self._register(self.combiner) if self.combiner is not None else ()), *self.request()]

    def hello_later(self, combiner: str) -> list[Effect]:
        """Registers with `combiner` again soon. It answers with all tasks that are still open, with fresh URLs."""
        return [StartTimer(f"hello:{combiner}", HELLO_SOON)]

    def duplicate(self, found: DuplicateClient) -> list[Effect]:
        """Registers again soon if this process continues: the other one may have received its tasks. Else does nothing."""
        continues = found.continues == self._attach.instance
        return self.hello_later(self.combiner) if continues and self.combiner is not None else []

    def leave(self) -> list[Effect]:
        """Publishes to the combiner, if there is one, that the client is leaving."""
        return (
            []
            if self.combiner is None
            else [self._to(self.combiner, ClientPresence(leaving=True, instance=self._attach.instance))]
        )

    def fired(self, timer: str) -> list[Effect]:
        """Handles a timer that was started here; returns nothing for another one."""
        kind, _, combiner = timer.partition(":")
        if kind == "attach":
            return self.request()
        if kind == "hello":
            return [self._hello(combiner)]
        if kind == "presence" and self.combiner is not None:
            presence = self._to(self.combiner, ClientPresence(instance=self._attach.instance), confirm=False)
            return [presence, StartTimer("presence", self._period)]
        return []

    def _register(self, combiner: str) -> list[Effect]:
        return [StartTimer("presence", self._period), self._hello(combiner)]

    def _hello(self, combiner: str) -> Publish:
        return self._to(combiner, ClientHello(instance=self._attach.instance, tickets=True))

    def _to(self, combiner: str, body: Body, *, confirm: bool = True) -> Publish:
        return publish_to(combiner, self._client, body, confirm=confirm)
