"""Writes the event stream into the records, in batches, so that a dashboard that is opened later shows the past."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fedmq.brokers.base import Connection, Delivery
from fedmq.errors import FedMQError, ProtocolError, Transient, cut
from fedmq.records.base import Records
from fedmq.runtime.event_stream import decode_events
from fedmq.runtime.stalls import Stalls
from fedmq.runtime.turns import FairTurns
from fedmq.scheduler import Scheduler
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Envelope, Event
from fedmq_schemas.records import event_document
from fedmq_schemas.role_accounts import server_accounts
from fedmq_schemas.topology import Topology

log = logging.getLogger("fedmq.recorder")

BATCH = 200
PREFETCH = 5 * BATCH
BATCH_SECONDS = 0.02
SERVER_BATCH_SECONDS = 0.1
"""Each write to a server costs more, and delays others."""
RETRY_SECONDS = 1.0
MOST_AHEAD = 300.0
"""Seconds that a client's clock may be ahead. Its events would else precede all newer ones, and would not be deleted."""


@dataclass(slots=True)
class EventBatch:
    """Messages that arrived between two reconnects, and the documents of the events in them, each with its message's tag."""

    tags: list[int]
    documents: list[tuple[int, dict[str, Any]]]


class Recorder:
    """Consumes the `records` queue, and acknowledges a message when its events are durable.

    Events are keyed by id. An event that is published twice is kept as it was first, as records of an ended session do not
    change.

    - `offload`: the record store is a server, so records are written off the scheduler's thread.
    - `shared_account`: this process's account. It and those of the servers' roles may report events of everybody. Another
      account may report only its own events, and an event without an account is rejected.
    - Events of other accounts than the servers' are recorded in turns (see `fedmq.runtime.turns`).
    - `stalls`: notes batches that wait for their retry.
    """

    def __init__(
        self,
        connection: Connection,
        scheduler: Scheduler,
        topology: Topology,
        records: Records,
        *,
        offload: bool,
        shared_account: str | None = None,
        stalls: Stalls | None = None,
    ) -> None:
        self._connection = connection
        self._scheduler = scheduler
        self._topology = topology
        self._records = records
        self._offload = offload
        self._servers = server_accounts(topology, shared_account)
        self._turns = FairTurns(
            scheduler,
            servers=self._servers,
            prefetch=PREFETCH,
            receive=self._receive,
            refuse=lambda delivery, reason: connection.reject(delivery.tag, reason),
            drop=lambda delivery: connection.ack([delivery.tag]),
            report=lambda sender, reason: log.warning("events turned away", extra={"sender": sender, "reason": reason}),
        )
        self._stalls = stalls or Stalls(scheduler.wall)
        self._batch = EventBatch([], [])
        self._life = 0
        self._is_due = False
        self._is_writing = False
        connection.on_reconnect = self._start_over

    def start(self) -> None:
        """Starts to consume the queue."""
        queue = self._topology.records()
        self._connection.declare(queue)
        self._connection.consume(queue.name, PREFETCH, self._turns.put)

    def stop(self) -> None:
        """Writes and acknowledges the batch, and closes the connection. What waits for its turn is redelivered."""
        self._turns.clear()
        if self._batch.tags and not self._is_writing:
            batch, self._batch = self._batch, EventBatch([], [])
            self._settle(batch, self._write(batch))
        self._connection.close()

    def drain(self, then: Callable[[], None]) -> None:
        """Stops to consume. Events that are not written yet are redelivered once the connection is closed."""
        self._connection.cancel(self._topology.records().name)
        self._turns.clear()
        then()

    def leave(self, timeout: float) -> None:
        """Closes the connection within `timeout` seconds."""
        self._connection.close(timeout)

    def _start_over(self) -> None:
        self._life += 1
        self._batch = EventBatch([], [])
        self._turns.clear()

    def _receive(self, delivery: Delivery) -> None:
        try:
            envelope, events = self._decode(delivery)
        except ProtocolError as error:
            self._connection.reject(delivery.tag, error.reason)
            return
        self._batch.tags.append(delivery.tag)
        self._batch.documents.extend((delivery.tag, event_document(envelope, event)) for event in events)
        if len(self._batch.documents) >= BATCH:
            self._flush()
        elif not self._is_due:
            self._is_due = True
            self._scheduler.later(SERVER_BATCH_SECONDS if self._offload else BATCH_SECONDS, self._due)

    def _decode(self, delivery: Delivery) -> tuple[Envelope, Sequence[Event]]:
        user = delivery.user
        if user is None and self._servers is not None:
            raise ProtocolError("an event without user_id: its sender is unknown")
        is_client = self._servers is not None and user not in self._servers
        own = None if user in (self._servers or ()) else user
        envelope, events = decode_events(delivery, self._topology.alliance, own, is_client=is_client)
        ahead = envelope.sent_at - self._scheduler.wall()
        if is_client and ahead > MOST_AHEAD:
            raise ProtocolError(f"its time lies {ahead:.0f} s ahead of the reducer's: let both keep time by NTP")
        return envelope, events

    def _due(self) -> None:
        self._is_due = False
        self._flush()

    def _flush(self) -> None:
        if self._is_writing or not self._batch.tags:
            return
        batch, self._batch = self._batch, EventBatch([], [])
        life = self._life
        self._is_writing = True

        def written(refused: dict[int, str] | None, error: Exception | None) -> None:
            self._is_writing = False
            if isinstance(error, Transient):
                self._stalls.retry(self, "RecordEvents", error)
                if life == self._life:
                    later, self._batch = self._batch, batch
                    self._batch.tags += later.tags
                    self._batch.documents += later.documents
                self._scheduler.later(RETRY_SECONDS, self._flush)
                return
            self._stalls.end(self)
            if error is not None:  # a bug, which ends the wait of no message
                refused = dict.fromkeys(batch.tags, cut(repr(error)))
            if life == self._life:
                self._settle(batch, refused or {})
            self._flush()

        if self._offload:
            self._scheduler.submit(lambda: self._write(batch), written)
            return
        try:
            refused = self._write(batch)
        except Exception as error:
            written(None, error)
        else:
            written(refused, None)

    def _settle(self, batch: EventBatch, refused: dict[int, str]) -> None:
        """Acknowledges the messages of a batch, and rejects those with an event that is refused: tag → reason."""
        self._connection.ack([tag for tag in batch.tags if tag not in refused])
        for tag, reason in refused.items():
            log.error("an event can't be recorded", extra={"reason": reason})
            self._connection.reject(tag, reason)

    def _write(self, batch: EventBatch) -> dict[int, str]:
        """Records all events, or one by one if they are refused together. Returns why, for the messages with a refused one.

        Raises Transient if the store can't be reached.
        """
        try:
            self._insert([document for _, document in batch.documents])
        except Transient:
            raise
        except FedMQError:
            return self._write_each(batch)
        return {}

    def _write_each(self, batch: EventBatch) -> dict[int, str]:
        refused = {}
        for tag, document in batch.documents:
            try:
                self._insert([document])
            except Transient:
                raise
            except FedMQError as error:
                refused[tag] = error.reason
        return refused

    def _insert(self, documents: list[dict[str, Any]]) -> None:
        self._records.insert_many(tables.EVENTS, [(document["id"], document) for document in documents])
