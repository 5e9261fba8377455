"""The data that all decisions of a combiner share. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fedmq.runtime.effects import Publish, PublishEvent
from fedmq.runtime.routines import Context
from fedmq_combiner.members.instances import Instances
from fedmq_schemas import topology
from fedmq_schemas.limits import LONGEST_REASON, safe
from fedmq_schemas.messages import Body, PlanKey, UpdateOutcome


class CombinerContext(Context):
    """The context of a combiner's routines.

    - `hold_at_most`: unacknowledged messages of a plan that cause a checkpoint.
    - `without_tickets`: the clients whose last hello does not state `tickets`. Their tasks hold the URL of the upload.
    """

    def __init__(self, combiner: str, hold_at_most: int) -> None:
        super().__init__()
        self.combiner = combiner
        self.hold_at_most = hold_at_most
        self.instances = Instances()
        self.without_tickets: set[str] = set()

    def publish_event(self, name: str, plan: PlanKey, client: str | None = None, data: Mapping[str, Any] = {}) -> None:
        """Publishes an event about a plan, or about a client's task in it."""
        self.emit(PublishEvent(name, plan.session, plan.round, client, self.combiner, data))

    def report_outcome(
        self, client: str, plan: PlanKey, outcome: Literal["accepted", "rejected", "discarded"], reason: str
    ) -> None:
        """Publishes to a client what became of its update, if the client knows such messages."""
        if self.instances.knows(client):
            self.to_client(client, UpdateOutcome(plan=plan, outcome=outcome, reason=safe(reason)[:LONGEST_REASON]))

    def to_client(self, client: str, body: Body) -> None:
        """Publishes to a client what it can miss: the message is lost if the client is away."""
        self.emit(Publish("task", topology.task_key(client), body, confirm=False))
