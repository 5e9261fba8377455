"""The runtime: carries messages to a core and carries out the effects that it returns.

One `Actor` joins one core to one broker connection on a scheduler. It decodes, hands events to the core one at a time,
and runs each returned group of effects in order (see `fedmq.effects`). It knows nothing of roles: what a role can do
beside messages and timers comes as performers.
"""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedmq import codec, effects
from fedmq.brokers.base import Connection, Delivery, Outgoing
from fedmq.effects import Core, CoreEvent, Effect, Moment
from fedmq.errors import FedMQError, ProtocolError, Transient
from fedmq.scheduler import Scheduler, Timer
from fedmq_schemas import messages
from fedmq_schemas.messages import Body, Envelope
from fedmq_schemas.topology import Queue, Topology, event_key

log = logging.getLogger("fedmq")

FIRST_RETRY = 0.1
LAST_RETRY = 5.0

Perform = Callable[[Any], Any]
Prepare = Callable[[Any], Body]
Observe = Callable[[CoreEvent, Sequence[Effect]], None]


class Group:
    """The rest of one `handle` call's effects, the next one last, and how many of its publishes are not confirmed yet."""

    __slots__ = ("cause", "dropped", "effects", "unconfirmed", "waiting")

    def __init__(self, cause: str | None) -> None:
        self.effects: list[Effect | Slot] = []
        self.cause = cause
        self.unconfirmed = 0
        self.waiting = False
        self.dropped = False


class Slot:
    """An effect's place in its lane, taken when the core asked for it; `is_asked` once its group has come to it."""

    __slots__ = ("effect", "group", "is_asked", "lane")

    def __init__(self, effect: effects.Perform, group: Group, lane: Lane) -> None:
        self.effect = effect
        self.group = group
        self.lane = lane
        self.is_asked = False


class Lane:
    """Effects that are performed one at a time, in the order in which the core decided on them."""

    __slots__ = ("is_busy", "is_running", "slots")

    def __init__(self) -> None:
        self.slots: deque[Slot] = deque()
        self.is_busy = False
        self.is_running = False


class Actor:
    """A core at work.

    `performers`: for each Perform effect's type, the function that does it; it may raise FedMQError. `prepare`: for a
    body's type, a last change before it is encoded (presigned URLs). `offload`: performers talk to servers, so all of
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
        performers: Mapping[type[Effect], Perform] | None = None,
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
        self._new_id = new_id
        self._performers = dict(performers or {})
        self._prepare = dict(prepare or {})
        self._prefetch = prefetch
        self._declare_inbox = declare_inbox
        self._offload = offload
        self._shared_account = shared_account
        self._is_addressed_by_servers = is_addressed_by_servers
        self._observe = observe
        self._lanes: dict[str, Lane] = {}
        self._timers: dict[str, Timer] = {}
        self._closed = False
        self._left = False
        self._drained: Callable[[], None] | None = None
        self._in_flight = 0
        self._unsettled: set[int] = set()
        self._event_exchange = topology.exchange("event")
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
        moment = Moment(self._scheduler.now(), self._scheduler.wall())
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
            self._advance(self._group(answer, cause))

    def _group(self, answer: Sequence[Effect], cause: str | None) -> Group:
        group = Group(cause)
        for effect in answer:
            name = effect.lane if isinstance(effect, effects.Perform) else None
            if name is None:
                group.effects.append(effect)
                continue
            assert isinstance(effect, effects.Perform)
            lane = self._lanes.setdefault(name, Lane())
            slot = Slot(effect, Group(cause) if effect.independent else group, lane)
            lane.slots.append(slot)
            group.effects.append(slot)
        group.effects.reverse()
        return group

    def post(self, event: CoreEvent) -> None:
        """`tell` from any thread."""
        self._scheduler.post(lambda: self.tell(event))

    @property
    def idle(self) -> bool:
        """Whether no effect is under way."""
        return self._in_flight == 0

    @property
    def unsettled(self) -> int:
        """Messages that are neither acked nor rejected."""
        return len(self._unsettled)

    def stop(self, timeout: float = 5.0) -> None:
        """Says goodbye (`Stopping`), confirms what is published, and leaves; unsettled messages go back to the inbox."""
        if not self._closed:
            self.tell(effects.Stopping())
            self.leave(timeout)

    def drain(self, then: Callable[[], None]) -> None:
        """Takes no more messages, says goodbye (`Stopping`), and calls `then` once the core has `Left` and no effect is
        under way. `leave` is still to be called."""
        self._drained = then
        self._connection.cancel(self._inbox.name)
        self.tell(effects.Stopping())
        self._settle()

    def leave(self, timeout: float) -> None:
        """Confirms what is published, for at most `timeout` seconds, and leaves; unsettled messages go back to the inbox."""
        if not self._closed:
            self._close()
            self._connection.close(timeout)

    def _settle(self) -> None:
        """Ends a drain as soon as that is possible."""
        if self._left and not self._in_flight and self._drained is not None:
            then, self._drained = self._drained, None
            then()

    def kill(self) -> None:
        """Leaves as a crash would: nothing is said or confirmed."""
        self._close()
        self._connection.kill()

    def _close(self) -> None:
        self._closed = True
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
            self._check_sender(delivery, message.envelope)
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

    def _check_sender(self, delivery: Delivery, envelope: Envelope) -> None:
        word = delivery.routing_key.rpartition(".")[2]
        if delivery.routing_key.startswith(("update.", "assignment.reducer.")) and word != envelope.sender:
            raise ProtocolError(
                f"{envelope.kind} message says it is from {envelope.sender!r} but was published as {word!r}"
            )

    def _tell_sender(self, error: codec.BadBody) -> None:
        """Where the sender waits for an event, it gets one."""
        envelope = error.envelope
        event = messages.BODIES[envelope.kind].refusal
        if event is not None:
            session, data = codec.name_from_id(envelope.id), {"reason": error.reason, "sender": envelope.sender}
            self._emit(effects.Emit(event, session, data=data, id=f"refused-{envelope.id}"), envelope.id)

    def refuse(self, tag: int, reason: str, routing_key: str = "", cause: str | None = None) -> None:
        """Dead-letters a message and records why; `cause` is the message's id."""
        log.warning("message refused", extra={"actor": self.name, "reason": reason, "routing_key": routing_key})
        self._emit(
            effects.Emit("message.refused", data={"reason": reason, "inbox": self._inbox.name, "key": routing_key}),
            cause,
        )
        self._unsettled.discard(tag)
        self._connection.reject(tag, reason)

    def _advance(self, group: Group) -> None:
        """Starts effects of the group until one has to be waited for."""
        if group.waiting:
            return
        while group.effects and not self._closed and not group.dropped:
            effect = group.effects[-1]
            if group.unconfirmed and not isinstance(effect, effects.Publish | effects.Emit):
                return
            group.effects.pop()
            if isinstance(effect, Slot):
                self._start(effect)
                if effect.group is group:
                    return
            elif isinstance(effect, effects.Perform):
                own = Group(group.cause) if effect.independent else group
                if not self._perform(effect, own, FIRST_RETRY) and own is group:
                    return
            else:
                try:
                    self._built_in(effect, group)
                except ProtocolError as error:
                    self._fail(effect, error, group)

    def _built_in(self, effect: Effect, group: Group) -> None:
        match effect:
            case effects.Publish():
                self._publish(effect, group)
            case effects.Emit():
                self._emit(effect, group.cause)
            case effects.Ack(tags):
                self._unsettled.difference_update(tags)
                self._connection.ack(list(tags))
            case effects.Reject(tag, reason):
                self.refuse(tag, reason, cause=group.cause)
            case effects.Resubscribe():
                self._connection.cancel(self._inbox.name)
                for tag in sorted(self._unsettled):
                    self._connection.requeue(tag)
                self._unsettled.clear()
                self._connection.consume(self._inbox.name, self._prefetch, self._deliver)
            case effects.Declare(queue):
                self._connection.declare(queue)
            case effects.StartTimer(key, seconds):
                self._start_timer(key, seconds)
            case effects.CancelTimer(key):
                timer = self._timers.pop(key, None)
                if timer is not None:
                    timer.cancel()
            case effects.Left():
                self._left = True
                self._settle()
            case _:
                raise TypeError(f"{self.name} has no performer for {type(effect).__name__}")

    def _outgoing(
        self, exchange: str, key: str, body: Body, message_id: str | None, cause: str | None, expiration: float | None
    ) -> Outgoing:
        message_id = message_id or self._new_id()
        envelope = {
            "kind": body.kind,
            "version": messages.VERSION,
            "id": message_id,
            "cause": cause,
            "alliance": self._topology.alliance,
            "sender": self.name,
            "sent_at": self._scheduler.wall(),
        }
        return Outgoing(exchange, key, codec.encode(envelope, body), message_id, expiration=expiration)

    def _publish(self, effect: effects.Publish, group: Group) -> None:
        body = effect.body
        prepare = self._prepare.get(type(body))
        if prepare is not None:
            body = prepare(body)
        exchange = self._topology.exchange(effect.exchange)
        outgoing = self._outgoing(exchange, effect.routing_key, body, effect.id, group.cause, effect.expiration)
        if not effect.confirm:
            self._connection.publish(outgoing)
            return
        group.unconfirmed += 1
        self._in_flight += 1

        def confirmed(error: FedMQError | None) -> None:
            group.unconfirmed -= 1
            self._in_flight -= 1
            if error is not None:
                self._fail(effect, error, group)
            elif not group.unconfirmed:
                self._advance(group)
            self._settle()

        self._connection.publish(outgoing, confirmed)

    def _emit(self, effect: effects.Emit, cause: str | None) -> None:
        body = messages.Event.model_construct(
            name=effect.name,
            session=effect.session,
            round=effect.round,
            client=effect.client,
            combiner=effect.combiner,
            data=dict(effect.data),
        )
        key = event_key(effect.session, effect.name)
        try:
            outgoing = self._outgoing(self._event_exchange, key, body, effect.id, cause, None)
        except ProtocolError as error:  # what it tells has happened: it must not fail because it can't be told in full
            short = {"reason": str(effect.data.get("reason", ""))[:1000], "left_out": error.reason}
            body = body.model_copy(update={"data": short})
            outgoing = self._outgoing(self._event_exchange, key, body, effect.id, cause, None)
        self._connection.publish(outgoing)

    def _start_timer(self, key: str, seconds: float) -> None:
        old = self._timers.pop(key, None)
        if old is not None:
            old.cancel()

        def fire() -> None:
            if self._timers.get(key) is timer:
                del self._timers[key]
                self.tell(effects.Fired(key))

        timer = self._scheduler.later(seconds, fire)
        self._timers[key] = timer

    def _start(self, slot: Slot) -> None:
        """Performs the effect when its lane gets to it; its group goes on from there."""
        slot.is_asked = slot.group.waiting = True
        self._run_lane(slot.lane)

    def _run_lane(self, lane: Lane) -> None:
        """Performs what is asked for at the head of the lane, one after the other, until one takes time."""
        if lane.is_running:
            return
        lane.is_running = True
        while lane.slots and not lane.is_busy and not self._closed:
            slot = lane.slots[0]
            if slot.group.dropped:
                lane.slots.popleft()
            elif not slot.is_asked:
                break
            else:
                lane.is_busy = True
                if self._perform(slot.effect, slot.group, FIRST_RETRY, lane):
                    slot.group.waiting = False
                    self._advance(slot.group)
        lane.is_running = False

    def _perform(self, effect: effects.Perform, group: Group, wait: float, lane: Lane | None = None) -> bool:
        """True if the effect is complete and its group may go on at once."""
        performer = self._performers[type(effect)]
        if effect.heavy or self._offload:
            group.waiting = True
            self._in_flight += 1

            def done(result: Any, error: Exception | None) -> None:
                self._in_flight -= 1
                if not self._closed and self._performed(effect, group, result, error, wait, lane):
                    self._go_on(group, lane)
                elif lane is not None:
                    self._run_lane(lane)
                self._settle()

            self._scheduler.submit(lambda: performer(effect), done)
            return False
        try:
            result, error = performer(effect), None
        except Exception as caught:
            result, error = None, caught
        return self._performed(effect, group, result, error, wait, lane)

    def _go_on(self, group: Group, lane: Lane | None) -> None:
        group.waiting = False
        self._advance(group)
        if lane is not None:
            self._run_lane(lane)

    def _performed(
        self,
        effect: effects.Perform,
        group: Group,
        result: Any,
        error: Exception | None,
        wait: float,
        lane: Lane | None,
    ) -> bool:
        if isinstance(error, Transient):
            self._retry_later(effect, group, error, wait, lane)
            return False
        if lane is not None:
            lane.slots.popleft()
            lane.is_busy = False
        if error is not None:
            self._fail(effect, self._own(effect, error), group)
        elif effect.reports:
            self.tell(effects.Done(effect, result), group.cause)
        return error is None

    def _retry_later(
        self, effect: effects.Perform, group: Group, error: Transient, wait: float, lane: Lane | None
    ) -> None:
        log.warning(
            "will try again", extra={"actor": self.name, "effect": type(effect).__name__, "reason": error.reason}
        )
        group.waiting = True

        def again() -> None:
            if self._closed:
                return
            if self._perform(effect, group, min(wait * 2, LAST_RETRY), lane):
                self._go_on(group, lane)
            elif lane is not None:
                self._run_lane(lane)

        self._scheduler.later(wait, again)

    def _fail(self, effect: Effect, error: FedMQError, group: Group) -> None:
        if not group.dropped:
            group.dropped = True
            self.tell(effects.Failed(effect, error), group.cause)
            for left in group.effects:
                if isinstance(left, Slot):
                    self._run_lane(left.lane)

    def _own(self, effect: Effect, error: Exception) -> FedMQError:
        if isinstance(error, FedMQError):
            return error
        self._report_bug(f"performing {type(effect).__name__}", error)
        return FedMQError(f"internal error in {type(effect).__name__}: {error!r}")

    def _report_bug(self, doing: str, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))
        log.error("internal error", extra={"actor": self.name, "doing": doing, "traceback": text})
        data = {"reason": f"{doing}: {error!r}", "traceback": text[-8000:], "actor": self.name}
        self._emit(effects.Emit("actor.error", data=data), None)
