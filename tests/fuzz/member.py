"""The client of the hostile account: it attaches and trains, and shows the generator what its proper answers are."""

from __future__ import annotations

import hashlib
from typing import Any

from fedmq import codec
from fedmq.brokers.base import Delivery
from fedmq_schemas.messages import (
    Attach,
    Body,
    ClientHello,
    Decline,
    Grant,
    PlanKey,
    Progress,
    TaskMessage,
    Ticket,
    Update,
    UploadRequest,
    Validation,
)
from fedmq_schemas.topology import assignment_request_key, update_key
from fuzz.messages import Hostile
from simulation.alliance import ALLIANCE, message_of
from simulation.training import train
from support.world import World

ME = "hostile"


class Member:
    """Answers no task by itself, but requests a ticket for each update.

    `uploads`: it uploads the blob of each ticket, so that an update may be accepted.
    """

    def __init__(self, world: World, hostile: Hostile, *, uploads: bool) -> None:
        self._world = world
        self._hostile = hostile
        self._uploads = uploads
        self._connection = world.broker.connect(ME)
        self._trained: dict[PlanKey, tuple[str, bytes]] = {}

    def attach(self) -> None:
        """Attaches, and consumes its mailbox."""
        self._connection.consume(ALLIANCE.client(ME).name, 0, self._received)
        self._publish("assignment", assignment_request_key(ME), Attach())

    def _publish(self, exchange: str, key: str, body: Body) -> None:
        self._connection.publish(message_of(exchange, key, body, ME, self._world.new_id()))

    def _received(self, delivery: Delivery) -> None:
        self._connection.ack([delivery.tag])
        message = codec.decode(delivery.body, delivery.content_type, message_id="", alliance=ALLIANCE.alliance)
        match message.body:
            case Grant() as grant:
                self._publish("update", update_key(grant.combiner, ME), ClientHello(tickets=True))
            case TaskMessage() as task:
                self._learn(task)
            case Ticket(reason="") as ticket if ticket.plan in self._trained:
                self._answer(ticket, *self._trained[ticket.plan])

    def _learn(self, task: TaskMessage) -> None:
        self._hostile.combiner = task.combiner
        known: dict[str, Any] = {"model": task.model.key, "plan": task.plan.model_dump()}
        for name, value in known.items():
            self._hostile.learn(name, value)
        metrics, plan = {"loss": 0.5, "by": {"class": [0.25, 1]}}, task.plan
        self._show(Progress(plan=plan, fraction=0.5, metrics=metrics))
        self._show(Validation(plan=plan, model=task.model.key, scope="client", weight=7, metrics=metrics))
        if plan.action == "train":
            self._show(Decline(plan=plan, outcome="abstained", reason="no data"))
            data = train(self._world.blobs.ever(task.model.key), ME, task.seed)
            self._trained[plan] = task.model.key, data
            request = UploadRequest(plan=plan, size=len(data), sha256=hashlib.sha256(data).hexdigest())
            self._show(request)
            self._publish("update", update_key(task.combiner, ME), request)

    def _answer(self, ticket: Ticket, model: str, data: bytes) -> None:
        self._hostile.learn("key", ticket.blob.key)
        if self._uploads:
            self._world.blobs.put(ticket.blob.key, data)
        metrics, seconds = {"loss": 0.5, "by": {"class": [0.25, 1]}}, {"train": 0.5}
        update = Update(plan=ticket.plan, model=model, blob=ticket.blob, weight=1, metrics=metrics, seconds=seconds)
        self._show(update)

    def _show(self, body: Body) -> None:
        envelope = {"kind": body.kind, "version": 1, "sent_at": 0.0}
        self._hostile.see(body.kind, codec.encode(envelope, body.model_dump()))
