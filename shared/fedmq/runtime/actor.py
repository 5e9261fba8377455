"""The runtime: one `Actor` connects one core to one broker connection on a scheduler.

It decodes messages, passes events to the core one at a time, and runs each returned group of effects in order. It knows
nothing of roles: what a role does beside messages and timers is done by performers.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fedmq import codec, error_detail
from fedmq.brokers.base import Connection, Delivery
from fedmq.error_detail import ErrorDetail
from fedmq.errors import FedMQError, ProtocolError, cut
from fedmq.runtime import effects
from fedmq.runtime.effect_groups import EffectGroup
from fedmq.runtime.effect_runner import EffectRunner, Performer
from fedmq.runtime.effects import Core, CoreEvent, Effect, Now
from fedmq.runtime.message_writer import BodyWriter, MessageWriter
from fedmq.runtime.peers.json_readers import JsonReaders
from fedmq.runtime.peers.sender_check import SenderCheck, stated_sender
from fedmq.runtime.stalls import Stalls
from fedmq.runtime.timers import Timers
from fedmq.runtime.turns import FairTurns
from fedmq.scheduler import Scheduler
from fedmq_schemas import messages
from fedmq_schemas.keys import event_id
from fedmq_schemas.messages import Body
from fedmq_schemas.role_accounts import server_accounts
from fedmq_schemas.topology import Queue, Topology

log = logging.getLogger("fedmq")

Observe = Callable[[CoreEvent, Sequence[Effect], str | None], None]
"""Receives each event of a core, the effects that it returned, and the id of the message that led to the event."""


class Actor:
    """A core at work.

    - `performers`: the performer of each type of Perform effect (see `effect_runner.py`). `offload`: performers talk
      to servers, so all of them run off the actor's thread.
    - `writers`: for a type of message body, the function that returns its fields when the message is sent, where they are
      not those of the body (presigned URLs).
    - `observe`: is called after each step of the core.
    - `stalls`: notes what is retried.
    - `new_id`: returns message ids. Simulation passes a seeded one.
    - `detail`: what the published events hold of an exception. The log has all of it.
    - `shared_account`: this process's account, if it is a server's. Senders with accounts of nobody's but their own are
      received in turns (see `turns.py`).
    - A sender must have the name of the account that the broker reports for it. Exceptions: the servers' accounts, which
      several senders use (see `role_accounts`), and an inbox to which only servers may write (`is_addressed_by_servers`).
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
        writers: Mapping[type[Body], BodyWriter] | None = None,
        prefetch: int = 1000,
        declare_inbox: bool = True,
        offload: bool = False,
        shared_account: str | None = None,
        is_addressed_by_servers: bool = False,
        observe: Observe | None = None,
        stalls: Stalls | None = None,
        detail: ErrorDetail = "full",
    ) -> None:
        self.name = name
        self.core = core
        self._connection = connection
        self._scheduler = scheduler
        self._topology = topology
        self._inbox = inbox
        self._prefetch = prefetch
        self._declare_inbox = declare_inbox
        self._observe = observe
        self._detail: ErrorDetail = detail
        self._origin = SenderCheck(inbox, topology, shared_account, is_addressed_by_servers=is_addressed_by_servers)
        self._turns = FairTurns(
            scheduler,
            servers=server_accounts(topology, shared_account),
            prefetch=prefetch,
            receive=self._receive,
            refuse=self._refuse_delivery,
            drop=self._drop,
            report=self._report_turned_away,
        )
        self._readers = JsonReaders()
        self._writer = MessageWriter(name, connection, scheduler, topology, new_id, writers or {}, self._readers)
        self._runner = EffectRunner(
            name,
            scheduler,
            performers or {},
            offload=offload,
            built_in=self._built_in,
            report=self.handle,
            dead_letter=self._dead_letter,
            report_bug=self._report_bug,
            on_end=self._end_drain,
            stalls=stalls,
        )
        self._timers = Timers(scheduler, lambda key: self.handle(effects.Fired(key)))
        self._closed = False
        self._is_core_drained = False
        self._on_drained: Callable[[], None] | None = None
        self._unsettled: set[int] = set()
        connection.on_reconnect = self._reconnected

    def start(self) -> None:
        """Declares and consumes the inbox, with the queue of its dead letters, then passes `Started` to the core."""
        if self._declare_inbox:
            self._connection.declare(self._inbox)
            if self._inbox.dead_letter is not None:
                self._connection.declare(self._topology.dead())
        self._subscribe()
        self.handle(effects.Started())

    def _subscribe(self) -> None:
        """Consumes the inbox, and what is left in the one of the version before."""
        self._connection.consume(self._inbox.name, self._prefetch, self._deliver)
        if self._inbox.replaces is not None:
            self._connection.retire(self._inbox.replaces, self._prefetch, self._deliver)

    def _unsubscribe(self) -> None:
        for name in self._inbox.names:
            self._connection.cancel(name)

    def _reconnected(self) -> None:
        self._unsettled.clear()
        self._turns.clear()
        self.handle(effects.Reconnected())

    def handle(self, event: CoreEvent, cause: str | None = None) -> None:
        """Passes an event to the core and starts its effects; on the scheduler's thread. `cause`: a message's id."""
        if self._closed:
            return
        now = Now(self._scheduler.now(), self._scheduler.wall())
        try:
            answer = self.core.handle(event, now)
        except Exception as error:  # a bug in a core must not stop the service
            self._report_bug(f"handling {type(event).__name__}", error)
            reason = f"internal error: {error_detail.named(error, self._detail)}"
            if isinstance(event, effects.Received):
                self.refuse(event.tag, reason, cause=cause)
            if not isinstance(event, effects.Broken):
                self.handle(effects.Broken(event, FedMQError(reason)), cause)
            return
        if self._observe is not None:
            try:
                self._observe(event, answer, cause)
            except Exception as error:  # nor a bug in what only reports: the effects are decided
                self._report_bug(f"observing {type(event).__name__}", error)
        if answer:
            self._runner.run(answer, cause)

    def post(self, event: CoreEvent) -> None:
        """Has the event handled on the scheduler's thread; from any thread."""
        self._scheduler.post(lambda: self.handle(event))

    def publish_event(self, event: effects.PublishEvent) -> None:
        """Publishes an event that no core has decided; on the scheduler's thread."""
        if not self._closed:
            self._writer.add_event(event, None)

    @property
    def idle(self) -> bool:
        """Whether no effect is under way."""
        return self._runner.is_idle

    @property
    def unsettled(self) -> int:
        """Number of messages that are neither acknowledged nor rejected."""
        return len(self._unsettled)

    def stop(self, timeout: float = 5.0) -> None:
        """Passes `Stopping` to the core, performs the effects that are queued, and leaves."""
        if not self._closed:
            self.handle(effects.Stopping())
            while self._runner.has_queued:
                self._runner.perform_queued()
            self.leave(timeout)

    def drain(self, then: Callable[[], None]) -> None:
        """Receives no more, and calls `then` once the core has `Drained` and no effect is under way. Then `leave`."""
        self._on_drained = then
        self._unsubscribe()
        self._turns.clear()
        self.handle(effects.Stopping())
        self._end_drain()

    def leave(self, timeout: float) -> None:
        """Closes once all publishes are confirmed, or after `timeout` seconds. Unsettled messages return to the inbox."""
        if not self._closed:
            self._close()
            self._writer.flush_events()
            self._connection.close(timeout)

    def _end_drain(self) -> None:
        """Ends a drain if nothing is left to wait for."""
        if self._is_core_drained and self.idle and self._on_drained is not None:
            then, self._on_drained = self._on_drained, None
            then()

    def kill(self) -> None:
        """Leaves as a crash would: publishes and confirms nothing more."""
        self._close()
        self._connection.kill()

    def _close(self) -> None:
        self._closed = True
        self._turns.clear()
        self._runner.close()
        self._timers.clear()

    def _deliver(self, delivery: Delivery) -> None:
        if self._closed:
            return
        self._unsettled.add(delivery.tag)
        self._turns.put(delivery)

    def _receive(self, delivery: Delivery) -> None:
        try:
            message = self._origin.decode(delivery)
        except ProtocolError as error:
            if isinstance(error, codec.BadBody):
                self._publish_refusal(error, self._origin.account(delivery))
            self._refuse_delivery(delivery, error.reason)
            return
        envelope, is_json = message.envelope, delivery.content_type == codec.JSON
        self._readers.note(message, is_json)
        self.handle(effects.Received(message.body, envelope, delivery.tag, is_json), envelope.id)

    def _refuse_delivery(self, delivery: Delivery, reason: str) -> None:
        # The sender has chosen the key and the id, and may have written what an event may not hold.
        key, cause = cut(delivery.routing_key), event_id(cut(delivery.message_id)) or None
        self.refuse(delivery.tag, reason, key, cause, sender=cut(stated_sender(delivery)))

    def _drop(self, delivery: Delivery) -> None:
        self._unsettled.discard(delivery.tag)
        self._connection.ack([delivery.tag])

    def _report_turned_away(self, sender: str, reason: str) -> None:
        if not self._closed:
            data = {"reason": reason, "inbox": self._inbox.name, "sender": sender}
            log.warning("messages turned away", extra={"actor": self.name, **data})
            self._writer.add_event(effects.PublishEvent("message.refused", data=data), None)

    def _publish_refusal(self, error: codec.BadBody, account: str | None) -> None:
        """Publishes the event that ends the sender's wait, if this kind of message has one.

        The message's address and account are checked by then. `account`: who sent it; None: who it says it is from.
        """
        envelope = error.envelope
        event = messages.BODIES[envelope.kind].refusal
        if event is not None:
            session, data = (
                codec.name_from_id(envelope.id),
                {"reason": error.reason, "sender": account or envelope.sender},
            )
            self._writer.add_event(
                effects.PublishEvent(event, session, data=data, id=event_id(f"refused-{envelope.id}")), envelope.id
            )

    def refuse(
        self, tag: int, reason: str, routing_key: str = "", cause: str | None = None, *, sender: str = ""
    ) -> None:
        """Rejects a message, which moves to the dead letters, and publishes the reason; `cause` is the message's id."""
        reason = cut(reason)
        data = {"reason": reason, "inbox": self._inbox.name, "key": routing_key}
        if sender:
            data["sender"] = sender
        log.warning("message refused", extra={"actor": self.name, "routing_key": routing_key, **data})
        self._writer.add_event(effects.PublishEvent("message.refused", data=data), cause)
        self._writer.flush_events()
        self._unsettled.discard(tag)
        self._connection.reject(tag, reason)

    def _dead_letter(self, tags: Sequence[int], reason: str, cause: str | None) -> None:
        """Rejects those of the messages that are unsettled."""
        for tag in sorted(self._unsettled.intersection(tags)):
            self.refuse(tag, reason, cause=cause)

    def _built_in(self, effect: Effect, group: EffectGroup) -> None:
        match effect:
            case effects.PublishEvent():
                self._writer.add_event(effect, group.cause)
            case effects.Publish():
                self._writer.flush_events()
                outgoing = self._writer.encode(effect, group.cause)
                self._connection.publish(outgoing, self._runner.confirmation(effect, group) if effect.confirm else None)
            case effects.Ack():
                self._writer.flush_events()
                self._unsettled.difference_update(effect.tags)
                self._connection.ack(list(effect.tags))
            case effects.Reject():
                self.refuse(effect.tag, effect.reason, cause=group.cause)
            case effects.StartTimer():
                self._timers.start(effect.key, effect.seconds)
            case effects.CancelTimer():
                self._timers.cancel(effect.key)
            case effects.Declare():
                self._connection.declare(effect.queue)
            case effects.DeleteQueue():
                self._connection.delete(effect.queue_name)
            case effects.ReadsJson():
                self._readers.clients.update(effect.clients)
            case effects.Resubscribe():
                self._resubscribe()
            case effects.Drained():
                self._is_core_drained = True
                self._end_drain()
            case _:
                raise TypeError(f"{self.name} has no performer for {type(effect).__name__}")

    def _resubscribe(self) -> None:
        self._unsubscribe()
        for tag in sorted(self._unsettled):
            self._connection.requeue(tag)
        self._unsettled.clear()
        self._turns.clear()
        self._subscribe()

    def _report_bug(self, doing: str, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))
        log.error("internal error", extra={"actor": self.name, "doing": doing, "traceback": text})
        reason = cut(f"{doing}: {error_detail.named(error, self._detail)}")
        shown = error_detail.shown(error, self._detail, lambda code: Path(code.co_filename).name)
        data = {"reason": reason, "traceback": shown[-8000:], "actor": self.name}
        self._writer.add_event(effects.PublishEvent("actor.error", data=data), None)
