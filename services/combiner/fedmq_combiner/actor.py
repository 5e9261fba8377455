"""Builds the actor of a combiner from its core, its performers and its inbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedmq import codec
from fedmq.blobs.base import Blobs
from fedmq.brokers.base import Connection
from fedmq.runtime.actor import Actor, Observe
from fedmq.runtime.stalls import Stalls
from fedmq.scheduler import Scheduler
from fedmq_combiner.core import CombinerCore
from fedmq_combiner.fold_performer import FoldPerformer
from fedmq_combiner.task_writer import TaskWriter, TicketWriter
from fedmq_schemas.messages import CombinerPresence, TaskMessage, Ticket
from fedmq_schemas.topology import Topology

PREFETCH = 10_000


def presence_fields(stalls: Stalls, body: CombinerPresence) -> Mapping[str, Any]:
    """Returns the fields of a presence message that also reports the stalls of this process."""
    return codec.fields_of(body.model_copy(update={"stalls": tuple(stalls.current())}))


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
    stalls: Stalls | None = None,
) -> Actor:
    """Returns the actor. `offload`: the blob store is a server. `shared_account`: see `Actor`.

    The combiner's presence messages report the `stalls`.
    """
    stalls = stalls or Stalls(scheduler.wall)
    core = CombinerCore(name, presence=presence, hold_at_most=PREFETCH // 2)
    return Actor(
        name,
        core,
        connection,
        scheduler,
        topology,
        inbox=topology.combiner(name),
        new_id=new_id,
        performers=FoldPerformer(name, blobs, scratch, None if offload else scheduler.post).performers(),
        writers={
            TaskMessage: TaskWriter(blobs, new_id, scheduler.now, core.has_tickets).fields,
            Ticket: TicketWriter(blobs).fields,
            CombinerPresence: partial(presence_fields, stalls),
        },
        prefetch=PREFETCH,
        offload=offload,
        shared_account=shared_account,
        observe=observe,
        stalls=stalls,
    )
