"""Builds the actor of a combiner from its core, its performers and its inbox."""

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
from fedmq_combiner.fold_performer import FoldPerformer
from fedmq_schemas import keys
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

    shared: tuple[tuple[PlanKey, BlobRef, float], dict[str, Any]] | None = None

    def with_urls(task: Task) -> dict[str, Any]:
        """URLs are made when a task is sent, so no core, event or record ever holds one. What the tasks of a plan have in
        common is written, and the model's GET signed, once for those that are sent together; each PUT is for one fresh
        key."""
        nonlocal shared
        plan, model, seconds = task.plan, task.model, task.timeout + URL_SLACK
        if shared is None or not (shared[0][0] is plan and shared[0][1] is model and shared[0][2] == seconds):
            common = fields_of(task) | {"model_url": blobs.presign_get(model.key, seconds)}
            if task.base is not None:
                common["base_url"] = blobs.presign_get(task.base.key, seconds)
            shared = (plan, model, seconds), common
        fields = {**shared[1], "client": task.client, "seed": task.seed}
        if plan.action == "train":
            key = keys.upload_blob(plan.session, plan.round, task.client, new_id())
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
        performers=FoldPerformer(name, blobs, scratch).performers(),
        writers={Task: with_urls},
        prefetch=PREFETCH,
        offload=offload,
        shared_account=shared_account,
        observe=observe,
    )
