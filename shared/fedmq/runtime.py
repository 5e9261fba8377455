"""The runtime: carries messages to a core and carries out the effects that it returns.

One `Actor` joins one core to one broker connection on a scheduler. It decodes, hands events to the core one at a time,
and has each returned group of effects run in order (see `fedmq.effects`). It knows nothing of roles: what a role can do
beside messages and timers comes as performers.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedmq import codec, effects
from fedmq.brokers.base import Connection, Delivery
from fedmq.effects import Core, CoreEvent, Effect, Now
from fedmq.errors import ProtocolError
from fedmq.origin import Origin
from fedmq.outbox import Outbox, Prepare
from fedmq.performing import Group, Performer, Performing
from fedmq.scheduler import Scheduler, Timer
from fedmq_schemas import messages
from fedmq_schemas.messages import Body
from fedmq_schemas.topology import Queue, Topology

log = logging.getLogger("fedmq")

Observe = Callable[[CoreEvent, Sequence[Effect]], None]


class Actor:
    """A core at work.

    `performers`: for each Perform effect's type, the function that does it; it may raise FedMQError. `prepare`: for a
    body's type, what makes its fields when it is sent (presigned URLs). `offload`: performers talk to servers, so all of
    them run off the actor's thread. `observe` is told every step, `cause` is then the id of the message that led to it.
    `new_id` gives message ids; simulation passes a seeded one. A sender must have the name of the account that the broker
    says it used, except where that is `shared_account`, which several use, or where only the alliance's servers may write
    to the inbox (`is_addressed_by_servers`).
    """

    def __init__(
        self,
        name: str,
        core: Core,
        connection: Connection,
        scheduler: Scheduler,
        topology: Topology,
        *,
        inbox: Queue,
        new_id: Callable[[], str],
        performers: Mapping[type[Effect], Performer] | None = None,
        prepare: Mapping[type[Body], Prepare] | None = None,
        prefetch: int = 1000,
        declare_inbox: bool = True,
        offload: bool = False,
        shared_account: str | None = None,
        is_addressed_by_servers: bool = False,
        observe: Observe | None = None,
    ) -> None:
        self.name = name
        self.core = core
        self.cause: str | None = None
        self._connection = connection
        self._scheduler = scheduler
        self._topology = topology
        self._inbox = inbox
        self._prefetch = prefetch
        self._declare_inbox = declare_inbox
        self._shared_account = shared_account
        self._is_addressed_by_servers = is_addressed_by_servers
        self._observe = observe
        self._origin = Origin(inbox, topology, shared_account)
        self._outbox = Outbox(name, connection, scheduler, topology, new_id, prepare or {})
        self._performing = Performing(
            name, scheduler, performers or {}, offload=offload,
            built_in=self._built_in, tell=self.tell, bug=self._report_bug, settled=self._settle,
        )  # fmt: skip
        self._timers: dict[str, Timer] = {}
        self._closed = False
        self._left = False
        self._drained: Callable[[], None] | None = None
        self._unsettled: set[int] = set()
        connection.on_reconnect = self._reconnected

    def start(self) -> None:
        """Declares and consumes the inbox, with the queue of its dead letters, then tells the core `Started`."""
        if self._declare_inbox:
            self._connection.declare(self._inbox)
            if self._inbox.dead_letter is not None:
                self._connection.declare(self._topology.dead())
        self._connection.consume(self._inbox.name, self._prefetch, self._deliver)
        self.tell(effects.Started())

    def _reconnected(self) -> None:
        self._unsettled.clear()
        self.tell(effects.Reconnected())

    def tell(self, event: CoreEvent, cause: str | None = None) -> None:
        """Hands an event to the core and carries out what it answers; from the scheduler's thread only."""
        if self._closed:
            return
        moment = Now(self._scheduler.now(), self._scheduler.wall())
        self.cause = cause
        try:
            answer = self.core.handle(event, moment)
        except Exception as error:  # a bug in a core must not stop the service
            self._report_bug(f"handling {type(event).__name__}", error)
            if isinstance(event, effects.Received):
                self.refuse(event.tag, f"internal error: {error!r}", cause=cause)
            return
        if self._observe is not None:
            self._observe(event, answer)
        if answer:
            self._performing.run(answer, cause)

    def post(self, event: CoreEvent) -> None:
        """`tell` from any thread."""
        self._scheduler.post(lambda: self.tell(event))

    @property
    def idle(self) -> bool:
        """Whether no effect is under way."""
        return self._performing.idle

    @property
    def unsettled(self) -> int:
        """Messages that are neither acked nor rejected."""
        return len(self._unsettled)

    def stop(self, timeout: float = 5.0) -> None:
        """Says goodbye (`Stopping`), confirms what is published, and leaves; unsettled messages go back to the inbox."""
        if not self._closed:
            self.tell(effects.Stopping())
            while self._performing.is_queued:
                self._performing.work_off()
            self.leave(timeout)

    def drain(self, then: Callable[[], None]) -> None:
        """Takes no more messages, says goodbye (`Stopping`), and calls `then` once the core has `Drained` and no effect is
        under way. `leave` is still to be called."""
        self._drained = then
        self._connection.cancel(self._inbox.name)
        self.tell(effects.Stopping())
        self._settle()

    def leave(self, timeout: float) -> None:
        """Confirms what is published, for at most `timeout` seconds, and leaves; unsettled messages go back to the inbox."""
        if not self._closed:
            self._close()
            self._outbox.tell()
            self._connection.close(timeout)

    def _settle(self) -> None:
        """Ends a drain as soon as that is possible."""
        if self._left and self.idle and self._drained is not None:
            then, self._drained = self._drained, None
            then()

    def kill(self) -> None:
        """Leaves as a crash would: nothing is said or confirmed."""
        self._close()
        self._connection.kill()

    def _close(self) -> None:
        self._closed = True
        self._performing.close()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _deliver(self, delivery: Delivery) -> None:
        if self._closed:
            return
        self._unsettled.add(delivery.tag)
        try:
            message = codec.decode(
                delivery.body,
                delivery.content_type,
                message_id=delivery.message_id,
                alliance=self._topology.alliance,
                user=self._known_user(delivery),
            )
            self._origin.check(delivery, message.envelope)
        except ProtocolError as error:
            if isinstance(error, codec.BadBody):
                self._tell_sender(error)
            self.refuse(delivery.tag, error.reason, delivery.routing_key, delivery.message_id)
            return
        envelope = message.envelope
        self.tell(effects.Received(message.body, envelope, delivery.tag), envelope.id)

    def _known_user(self, delivery: Delivery) -> str | None:
        """The account that must have the sender's name; None where accounts say nothing about who sent."""
        is_shared = self._is_addressed_by_servers or delivery.user == self._shared_account
        return None if is_shared else delivery.user

    def _tell_sender(self, error: codec.BadBody) -> None:
        """Where the sender waits for an event, it gets one."""
        envelope = error.envelope
        event = messages.BODIES[envelope.kind].refusal
        if event is not None:
            session, data = codec.name_from_id(envelope.id), {"reason": error.reason, "sender": envelope.sender}
            self._outbox.emit(
                effects.PublishEvent(event, session, data=data, id=f"refused-{envelope.id}"[:200]), envelope.id
            )

    def refuse(self, tag: int, reason: str, routing_key: str = "", cause: str | None = None) -> None:
        """Dead-letters a message and records why; `cause` is the message's id."""
        log.warning("message refused", extra={"actor": self.name, "reason": reason, "routing_key": routing_key})
        self._outbox.emit(
            effects.PublishEvent(
                "message.refused", data={"reason": reason, "inbox": self._inbox.name, "key": routing_key}
            ),
            cause,
        )
        self._outbox.tell()
        self._unsettled.discard(tag)
        self._connection.reject(tag, reason)

    def _built_in(self, effect: Effect, group: Group) -> None:
        handler = _HANDLERS.get(type(effect))
        if handler is None:
            raise TypeError(f"{self.name} has no performer for {type(effect).__name__}")
        handler(self, effect, group)

    def _emit(self, effect: effects.PublishEvent, group: Group) -> None:
        self._outbox.emit(effect, group.cause)

    def _reject(self, effect: effects.Reject, group: Group) -> None:
        self.refuse(effect.tag, effect.reason, cause=group.cause)

    def _declare(self, effect: effects.Declare, _: Group) -> None:
        self._connection.declare(effect.queue)

    def _publish(self, effect: effects.Publish, group: Group) -> None:
        self._outbox.tell()
        outgoing = self._outbox.encoded(effect, group.cause)
        self._connection.publish(outgoing, self._performing.awaited(effect, group) if effect.confirm else None)

    def _ack(self, effect: effects.Ack, _: Group) -> None:
        self._outbox.tell()
        self._unsettled.difference_update(effect.tags)
        self._connection.ack(list(effect.tags))

    def _resubscribe(self, _: effects.Resubscribe, __: Group) -> None:
        self._connection.cancel(self._inbox.name)
        for tag in sorted(self._unsettled):
            self._connection.requeue(tag)
        self._unsettled.clear()
        self._connection.consume(self._inbox.name, self._prefetch, self._deliver)

    def _cancel_timer(self, effect: effects.CancelTimer, _: Group) -> None:
        timer = self._timers.pop(effect.key, None)
        if timer is not None:
            timer.cancel()

    def _core_is_drained(self, _: effects.Drained, __: Group) -> None:
        self._left = True
        self._settle()

    def _start_timer(self, effect: effects.StartTimer, _: Group) -> None:
        key = effect.key
        old = self._timers.pop(key, None)
        if old is not None:
            old.cancel()

        def fire() -> None:
            if self._timers.get(key) is timer:
                del self._timers[key]
                self.tell(effects.Fired(key))

        timer = self._scheduler.later(effect.seconds, fire)
        self._timers[key] = timer

    def _report_bug(self, doing: str, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))
        log.error("internal error", extra={"actor": self.name, "doing": doing, "traceback": text})
        data = {"reason": f"{doing}: {error!r}", "traceback": text[-8000:], "actor": self.name}
        self._outbox.emit(effects.PublishEvent("actor.error", data=data), None)


_HANDLERS: dict[type[Effect], Callable[[Actor, Any, Group], None]] = {
    effects.Publish: Actor._publish,
    effects.PublishEvent: Actor._emit,
    effects.Ack: Actor._ack,
    effects.Reject: Actor._reject,
    effects.Resubscribe: Actor._resubscribe,
    effects.Declare: Actor._declare,
    effects.StartTimer: Actor._start_timer,
    effects.CancelTimer: Actor._cancel_timer,
    effects.Drained: Actor._core_is_drained,
}
