"""A combiner at work: core, folding and inbox joined."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedmq.blobs.base import Blobs
from fedmq.brokers.base import Connection
from fedmq.codec import fields_of
from fedmq.runtime import Actor, Observe
from fedmq.scheduler import Scheduler
from fedmq_combiner.core import CombinerCore
from fedmq_combiner.folding import Folding
from fedmq_combiner.plans import upload_prefix
from fedmq_schemas.messages import BlobRef, PlanKey, Task
from fedmq_schemas.topology import Topology

PREFETCH = 10_000
URL_SLACK = 3600.0


def combiner_actor(
    name: str,
    connection: Connection,
    scheduler: Scheduler,
    topology: Topology,
    *,
    blobs: Blobs,
    scratch: Path,
    presence: float,
    new_id: Callable[[], str],
    offload: bool = False,
    shared_account: str | None = None,
    observe: Observe | None = None,
) -> Actor:
    """Builds the actor. `offload`: the blob store is a server. For `shared_account` see `Actor`."""

    signed: tuple[PlanKey, BlobRef, dict[str, str]] | None = None

    def with_urls(task: Task) -> dict[str, Any]:
        """URLs are made when a task is sent, so no core, event or record ever holds one. The model's GET is signed once
        for all clients of a plan; each PUT is for one fresh key."""
        nonlocal signed
        seconds = task.timeout + URL_SLACK
        plan, model = task.plan, task.model
        if signed is None or signed[0] is not plan or signed[1] is not model:
            got = {"model_url": blobs.presign_get(model.key, seconds)}
            if task.base is not None:
                got["base_url"] = blobs.presign_get(task.base.key, seconds)
            signed = plan, model, got
        fields = fields_of(task) | signed[2]
        if plan.action == "train":
            key = f"{upload_prefix(plan.session, plan.round, task.client)}{new_id()}"
            fields["upload_key"], fields["upload_url"] = key, blobs.presign_put(key, seconds)
        return fields

    return Actor(
        name,
        CombinerCore(name, presence=presence, hold_at_most=PREFETCH // 2),
        connection,
        scheduler,
        topology,
        inbox=topology.combiner(name),
        new_id=new_id,
        performers=Folding(name, blobs, scratch).performers(),
        prepare={Task: with_urls},
        prefetch=PREFETCH,
        offload=offload,
        shared_account=shared_account,
        observe=observe,
    )
