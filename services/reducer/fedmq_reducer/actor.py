"""Builds the actor of a reducer from its core, its performers and its inbox."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedmq.aggregation import RULES
from fedmq.blobs.base import Blobs
from fedmq.brokers.base import Connection
from fedmq.records.base import Records
from fedmq.runtime.actor import Actor, Observe
from fedmq.runtime.stalls import Stalls
from fedmq.scheduler import Scheduler
from fedmq_reducer.core import ReducerCore
from fedmq_reducer.members.membership import Membership
from fedmq_reducer.performers.aggregation_performer import AggregationPerformer
from fedmq_reducer.performers.record_performer import RecordPerformer
from fedmq_reducer.performers.retention_performer import RetentionPerformer
from fedmq_schemas.topology import MAILBOX_EXPIRES, REDUCER, Topology


def reducer_actor(
    holder: str,
    connection: Connection,
    scheduler: Scheduler,
    topology: Topology,
    *,
    blobs: Blobs,
    records: Records,
    scratch: Path,
    presence: float,
    partitions: int | None,
    inbox_expires: float = MAILBOX_EXPIRES,
    new_id: Callable[[], str],
    offload: bool = False,
    shared_account: str | None = None,
    observe: Observe | None = None,
    stalls: Stalls | None = None,
) -> Actor:
    """Returns the actor. `holder` names this process in the lease. `offload`: the stores are servers."""
    core = ReducerCore(
        Membership(topology, presence=presence, partitions=partitions, inbox_expires=inbox_expires),
        presence=presence,
        single_combiner_rules=frozenset(name for name, rule in RULES.items() if not rule.composes),
    )
    return Actor(
        REDUCER,
        core,
        connection,
        scheduler,
        topology,
        inbox=topology.reducer(),
        new_id=new_id,
        performers=RecordPerformer(holder, records).performers()
        | AggregationPerformer(blobs, records, scratch, scheduler.wall).performers()
        | RetentionPerformer(blobs, records).performers(),
        prefetch=2000,
        offload=offload,
        shared_account=shared_account,
        observe=observe,
        stalls=stalls,
    )
