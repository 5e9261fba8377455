"""The in-memory broker's queues: waiting messages, consumers, and whose turn it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedmq.brokers.base import Depth, Outgoing
from fedmq.scheduler import Scheduler
from fedmq_schemas.topology import Queue

BATCH = 100


@dataclass(slots=True, eq=False)
class QueuedMessage:
    """One message in one queue. `expires_at` is on the scheduler's clock."""

    message: Outgoing
    user: str
    headers: Mapping[str, object]
    expires_at: float | None
    redelivered: bool = False


@dataclass(slots=True, eq=False)
class QueueConsumer:
    """One connection's consumer of one queue. `hand` delivers an entry to the actor."""

    prefetch: int
    hand: Callable[[QueueConsumer, MemoryQueue, QueuedMessage], None]
    unsettled: int = 0

    def has_room(self) -> bool:
        """Returns whether the prefetch allows another delivery."""
        return not self.prefetch or self.unsettled < self.prefetch


class MemoryQueue:
    """A queue that delivers from the scheduler only, never from within a publish or an ack.

    `owner`: the connection of an exclusive queue, which is deleted with it; else None.
    """

    def __init__(self, queue: Queue, owner: object | None, scheduler: Scheduler) -> None:
        self.queue = queue
        self.owner = owner
        self.ready: deque[QueuedMessage] = deque()
        self.consumers: list[QueueConsumer] = []
        self.unused_at: float | None = None
        self.is_retired = False
        """Whether it is deleted once it is empty and its deliveries are settled."""
        self._bytes = 0
        self._scheduler = scheduler
        self._posted = False
        self.touch()

    def depth(self) -> Depth:
        """Returns how much waits, and how much its consumers hold."""
        consumers = list(self.consumers)
        held = sum(consumer.unsettled for consumer in consumers)
        return Depth(self.queue.name, len(self.ready), held, len(consumers))

    def touch(self) -> None:
        """Restarts the time after which an unused queue expires. It does not run while the queue has a consumer."""
        expires = self.queue.expires
        if expires is not None:
            self.unused_at = None if self.consumers else self._scheduler.now() + expires

    def expired(self) -> bool:
        """Returns whether the queue was unused for too long."""
        return self.unused_at is not None and self._scheduler.now() >= self.unused_at

    def is_done(self) -> bool:
        """Returns whether the queue is retired and empty, and its consumers hold nothing."""
        return self.is_retired and not self.ready and not any(each.unsettled for each in self.consumers)

    def put(self, entry: QueuedMessage) -> None:
        """Appends an entry. A full queue drops its oldest ones."""
        self.ready.append(entry)
        self._bytes += len(entry.message.body)
        longest, largest = self.queue.max_length, self.queue.max_bytes
        while (longest is not None and len(self.ready) > longest) or (largest is not None and self._bytes > largest):
            self._pop()
        self.wake()

    def _pop(self) -> QueuedMessage:
        entry = self.ready.popleft()
        self._bytes -= len(entry.message.body)
        return entry

    def put_back(self, entries: list[QueuedMessage]) -> None:
        """Returns entries of a lost consumer to the front, in order, marked as redelivered."""
        for entry in entries:
            entry.redelivered = True
        self.ready.extendleft(reversed(entries))
        self._bytes += sum(len(entry.message.body) for entry in entries)
        self.wake()

    def join(self, consumer: QueueConsumer) -> None:
        """Adds a consumer."""
        self.consumers.append(consumer)
        self.touch()
        self.wake()

    def leave(self, consumer: QueueConsumer) -> None:
        """Removes a consumer. With a single active consumer, the next one takes over."""
        if consumer in self.consumers:
            self.consumers.remove(consumer)
            self.touch()
            self.wake()

    def wake(self) -> None:
        """Schedules deliveries if any are possible."""
        if not self._posted and self.ready and self._free() is not None:
            self._posted = True
            self._scheduler.post(self._hand_out)

    def _free(self) -> QueueConsumer | None:
        """Returns the consumer that is next: of those with room the one that waits longest, or the active one."""
        for consumer in self.consumers:
            if consumer.has_room():
                return consumer
            if self.queue.single_active_consumer:
                return None
        return None

    def _hand_out(self) -> None:
        # At most a batch at a time, so that a long queue does not delay timers and other queues.
        self._posted = False
        try:
            for _ in range(BATCH):
                consumer = self._free() if self._drop_expired() else None
                if consumer is None:
                    return
                if len(self.consumers) > 1 and not self.queue.single_active_consumer:
                    self.consumers.remove(consumer)
                    self.consumers.append(consumer)
                consumer.hand(consumer, self, self._pop())
        finally:
            self.wake()

    def _drop_expired(self) -> bool:
        """Drops expired entries from the head, as RabbitMQ does. Returns whether any are left."""
        ready = self.ready
        while ready:
            expires_at = ready[0].expires_at
            if expires_at is None or self._scheduler.now() < expires_at:
                return True
            self._pop()
        return False
