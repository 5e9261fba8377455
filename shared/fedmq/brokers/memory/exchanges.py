"""The in-memory broker's exchanges: routes messages into queues, and attaches consumers to them."""

from __future__ import annotations

from collections.abc import Mapping

from fedmq.brokers.base import Outgoing
from fedmq.brokers.memory.queue import MemoryQueue, QueueConsumer, QueuedMessage
from fedmq.brokers.memory.topics import TopicTable
from fedmq.errors import ConfigError, FedMQError, NotFound
from fedmq.scheduler import Scheduler
from fedmq_schemas.topology import Queue


class Exchanges:
    """All exchanges and queues. A queue expires when it is next looked up, so no timer is needed."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._exchanges: dict[str, TopicTable[MemoryQueue]] = {}
        self._queues: dict[str, MemoryQueue] = {}
        self._waiting: dict[str, list[QueueConsumer]] = {}

    def find(self, name: str) -> MemoryQueue | None:
        """Returns the queue of that name; None if there is none or it has expired."""
        queue = self._queues.get(name)
        if queue is not None and queue.expired():
            self.delete(name)
            return None
        return queue

    def queues(self) -> list[MemoryQueue]:
        """Returns all queues, possibly with some that have just expired."""
        return list(self._queues.values())

    def declare(self, spec: Queue, owner: object | None) -> None:
        """Declares a queue, its bindings and exchanges. `owner`: the connection of an exclusive queue, else None.

        Raises ConfigError if the queue exists with other arguments or another owner.
        """
        existing = self.find(spec.name)
        if existing is not None:
            if existing.queue != spec or existing.owner is not owner:
                raise ConfigError(
                    f"queue {spec.name} exists with other arguments: delete it once it is empty, "
                    "or run the version that made it"
                )
            existing.touch()
            return
        queue = self._queues[spec.name] = MemoryQueue(spec, owner, self._scheduler)
        for binding in spec.bindings:
            self._exchange(binding.exchange).bind(binding.routing_key, queue)
        for exchange in (*spec.exchanges, *([spec.dead_letter] if spec.dead_letter is not None else [])):
            self._exchange(exchange)
        for consumer in self._waiting.pop(spec.name, ()):
            queue.join(consumer)

    def _exchange(self, name: str) -> TopicTable[MemoryQueue]:
        return self._exchanges.setdefault(name, TopicTable())

    def delete(self, name: str) -> None:
        """Deletes a queue with its messages. Its consumers wait until it is declared again."""
        queue = self._queues.pop(name, None)
        if queue is None:
            return
        self._unbind(queue)
        queue.ready.clear()
        if queue.consumers:
            self._waiting.setdefault(name, []).extend(queue.consumers)
            queue.consumers.clear()

    def _unbind(self, queue: MemoryQueue) -> None:
        for binding in queue.queue.bindings:
            self._exchanges[binding.exchange].unbind(binding.routing_key, queue)

    def retire(self, name: str) -> None:
        """Removes a queue's bindings, and deletes it once it is empty. Does nothing if it does not exist."""
        queue = self.find(name)
        if queue is not None:
            queue.is_retired = True
            self._unbind(queue)
            self.delete_if_done(queue)

    def delete_if_done(self, queue: MemoryQueue) -> None:
        """Deletes a retired queue that is empty."""
        if queue.is_done():
            self.delete(queue.queue.name)

    def join(self, name: str, consumer: QueueConsumer) -> None:
        """Adds a consumer, which waits if the queue does not exist yet."""
        queue = self.find(name)
        if queue is None:
            self._waiting.setdefault(name, []).append(consumer)
        else:
            queue.join(consumer)

    def leave(self, name: str, consumer: QueueConsumer) -> None:
        """Removes a consumer, also one that waits."""
        queue = self._queues.get(name)
        if queue is not None:
            queue.leave(consumer)
        waiting = self._waiting.get(name)
        if waiting is not None and consumer in waiting:
            waiting.remove(consumer)

    def route(self, message: Outgoing, user: str, headers: Mapping[str, object]) -> FedMQError | None:
        """Puts a message into the queues that its key matches. Returns the error of its confirm, or None."""
        exchange = self._exchanges.get(message.exchange)
        if exchange is None:
            return NotFound(f"there is no exchange {message.exchange}: start the reducer first")
        expires_at = None
        if message.expiration is not None:
            expires_at = self._scheduler.now() + message.expiration
        routed = False
        for queue in exchange.match(message.routing_key):
            if queue.expired():
                self.delete(queue.queue.name)
                continue
            routed = True
            queue.put(QueuedMessage(message, user, headers, expires_at))
        if message.mandatory and not routed:
            return NotFound(f"no queue receives {message.routing_key} of {message.exchange}")
        return None
