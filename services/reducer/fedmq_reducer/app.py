"""A reducer as a process of its own, until SIGTERM. Of any number of them one decides, the others stand by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.blobs.base import STORE as BLOBS
from fedmq.brokers.base import Connection
from fedmq.brokers.registry import open_administration, open_broker
from fedmq.process.connect import open_blobs, open_records
from fedmq.process.exposure import open_port
from fedmq.process.identity import claim, process_name
from fedmq.process.service import Service
from fedmq.process.settings import ReducerSettings
from fedmq.process.settings.types import DAY
from fedmq.process.wait_log import RoleWait, WaitLog, observe_all
from fedmq.records.base import STORE as RECORDS
from fedmq.web.families import UNSETTLED, Family
from fedmq_reducer.actor import reducer_actor
from fedmq_reducer.broker_check import BrokerCheck
from fedmq_reducer.core import LeaseState, ReducerCore
from fedmq_reducer.metrics import ACTIVE, EPOCH, LEASE_RENEWED
from fedmq_reducer.recorder import Recorder
from fedmq_reducer.system_monitor import SystemMonitor
from fedmq_reducer.traces import ReducerTraces
from fedmq_reducer.web.app import serve_api
from fedmq_schemas import records as tables
from fedmq_schemas.keys import ABSENT
from fedmq_schemas.topology import Topology

DEAD_PREFETCH = 50
"""Of dead letters of the version before, which hold whole messages."""


def waits_for(core: ReducerCore) -> RoleWait | None:
    """Returns what a reducer waits for before sessions can begin. A standby's wait, and that for clients, is no fault."""
    if core.lease is LeaseState.STANDBY:
        return RoleWait("it stands by until it gets the lease: another reducer decides meanwhile, if one runs")
    if core.lease is LeaseState.LOADING:
        return RoleWait("the records are being read", "see whether MongoDB answers: fedmq doctor reducer")
    if not len(core.members.combiners):
        return RoleWait("no combiner has registered", "start one with the same ALLIANCE_UID and version")
    return None if core.members.clients else RoleWait("no client has attached")


def move_dead_letters(connection: Connection, topology: Topology) -> None:
    """Moves the dead letters of the version before into the queue of this one, with their headers."""
    before = topology.dead().replaces
    if before is not None:
        connection.retire(before, DEAD_PREFETCH, lambda letter: connection.reject(letter.tag, "moved"))


def main(settings: ReducerSettings) -> None:
    """Runs until SIGTERM. Raises ConfigError if a setting is wrong or a server refuses the account."""
    holder = process_name()
    access = open_port(settings, settings.reducer_bind, "FEDN_REDUCER_BIND", (settings.reducer_host,))
    service = Service("reducer", holder, settings)
    identity = claim(settings.state_dir, "reducer", None, "reducer")
    service.stack.callback(identity.close)
    topology = Topology(settings.alliance)
    broker = open_broker(settings.amqp_url.get_secret_value(), service.scheduler)
    records, blobs = open_records(settings), open_blobs(settings)
    service.check_store(RECORDS, records.where, lambda: records.get(tables.SYSTEM, "queues"))
    service.check_store(
        BLOBS, f"the S3 server at {settings.minio_host}:{settings.minio_port}", lambda: blobs.stat(ABSENT)
    )
    service.stack.callback(records.close)
    connection = broker.connect("reducer")
    connection.declare(topology.dead())
    move_dead_letters(connection, topology)

    def waits() -> RoleWait | None:
        assert isinstance(actor.core, ReducerCore)
        return waits_for(actor.core)

    wait_log = WaitLog(service.scheduler, waits)
    actor = reducer_actor(
        holder,
        connection,
        service.scheduler,
        topology,
        blobs=blobs,
        records=records,
        scratch=identity.folder / "scratch",
        presence=settings.presence,
        partitions=settings.partitions,
        inbox_expires=settings.inbox_days * DAY,
        new_id=service.new_id,
        offload=True,
        shared_account=broker.account,
        stalls=service.stalls,
        observe=observe_all(service.telemetry, wait_log, *service.tracing(settings.traces_url, ReducerTraces)),
    )
    core = actor.core
    assert isinstance(core, ReducerCore)

    def details() -> Mapping[str, Any]:
        is_active = core.lease is LeaseState.ACTIVE  # one that stands by knows no members, or those of its last lease
        return {
            "state": core.lease.value,
            "epoch": core.term,
            "waits_for": wait_log.report(),
            "clients": len(core.members.clients) if is_active else None,
            "combiners": len(core.members.combiners) if is_active else None,
        }

    def gauges() -> Mapping[Family, float]:
        return {
            ACTIVE: core.lease is LeaseState.ACTIVE,
            EPOCH: core.term,
            LEASE_RENEWED: core.renewed_at,
            UNSETTLED: actor.unsettled,
        }

    recorder = Recorder(
        broker.connect("recorder"),
        service.scheduler,
        topology,
        records,
        offload=True,
        shared_account=broker.account,
        stalls=service.stalls,
    )
    control = broker.connect("api")
    api = serve_api(
        settings,
        broker,
        broker.account or "api",
        service.scheduler,
        blobs=blobs,
        records=records,
        scratch=identity.folder / "seeds",
        name=holder,
        new_id=service.new_id,
        stalls=service.stalls,
        control=control,
        access=access,
    )
    service.stack.callback(api.stop)
    api.start()
    administration = open_administration(settings.amqp_url.get_secret_value(), settings.management_url)
    service.stack.callback(administration.close)
    vitals = SystemMonitor(
        service.scheduler,
        records,
        blobs,
        lambda: administration.depths(settings.alliance),
        folder=identity.folder,
        is_active=lambda: core.lease is LeaseState.ACTIVE,
        waits=core.waits,
        stalls=service.stalls,
        record_seconds=settings.record_days * DAY if settings.record_days is not None else None,
    )

    def missing() -> str:
        return "it reads the records" if core.lease is LeaseState.LOADING else ""

    service.run(
        [actor, recorder, vitals, BrokerCheck(control, service.scheduler, topology)],
        connections=[connection, control],
        details=details,
        gauges=gauges,
        missing=missing,
        report=actor.publish_event,
        on_stall=vitals.record_stalls,
    )
