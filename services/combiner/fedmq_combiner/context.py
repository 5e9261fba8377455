"""The data that all decisions of a combiner share. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.runtime.effects import PublishEvent
from fedmq.runtime.routines import Context
from fedmq_schemas.messages import PlanKey


class CombinerContext(Context):
    """The context of a combiner's routines. `hold_at_most`: unacknowledged messages of a plan that cause a checkpoint."""

    def __init__(self, combiner: str, hold_at_most: int) -> None:
        super().__init__()
        self.combiner = combiner
        self.hold_at_most = hold_at_most

    def publish_event(self, name: str, plan: PlanKey, client: str | None = None, data: Mapping[str, Any] = {}) -> None:
        """Publishes an event about a plan, or about a client's task in it."""
        self.emit(PublishEvent(name, plan.session, plan.round, client, self.combiner, data))
