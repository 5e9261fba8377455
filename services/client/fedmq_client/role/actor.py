"""Builds the actor of a client from its core, its task runner and its mailbox."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedmq.brokers.base import Connection
from fedmq.error_detail import ErrorDetail
from fedmq.runtime.actor import Actor, Observe
from fedmq.runtime.effects import CoreEvent
from fedmq.runtime.stalls import Stalls
from fedmq.scheduler import Scheduler
from fedmq_client.job.job import Pool
from fedmq_client.role.core import ClientCore
from fedmq_client.role.model_cache import Models
from fedmq_client.role.runner import OnFault, TaskRunner
from fedmq_client.role.store import Store
from fedmq_client.trainer import Client
from fedmq_schemas.messages import Attach
from fedmq_schemas.topology import Topology

OUTPUT_LOG = "output.log"
"""The file in a client's state folder for what its trainer prints."""


def client_actor(
    client: Client,
    attach: Attach,
    package: Path,
    connection: Connection,
    scheduler: Scheduler,
    topology: Topology,
    *,
    pool: Pool,
    store: Store,
    models: Models,
    new_id: Callable[[], str],
    observe: Observe | None = None,
    output_log: Path | None = None,
    stalls: Stalls | None = None,
    detail: ErrorDetail = "full",
    on_fault: OnFault | None = None,
) -> Actor:
    """Builds the actor; `start()` makes it attach. The reducer declares the mailbox, for which the actor waits.

    `output_log`: see `TaskRunner`. `detail`: what it publishes of an error. `on_fault`: receives each error in full.
    """

    def report(event: CoreEvent) -> None:
        actor.post(event)

    # The runner reports to the actor, which needs the runner's performers to be built.
    runner = TaskRunner(
        client,
        package,
        pool,
        store,
        scheduler,
        models,
        package_sha256=attach.package or "",
        report=report,
        output_log=output_log,
        detail=detail,
        on_fault=on_fault,
        stalls=stalls,
    )
    actor = Actor(
        client.name,
        ClientCore(client.name, attach, store.load()),
        connection,
        scheduler,
        topology,
        inbox=topology.client(client.name),
        new_id=new_id,
        performers=runner.performers(),
        prefetch=100,
        declare_inbox=False,
        is_addressed_by_servers=True,
        observe=observe,
        stalls=stalls,
        detail=detail,
    )
    return actor
