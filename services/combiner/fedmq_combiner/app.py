"""A combiner as a process of its own. `main` returns after SIGTERM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.blobs.base import STORE
from fedmq.brokers.registry import open_broker
from fedmq.process.connect import open_blobs
from fedmq.process.identity import claim
from fedmq.process.service import Service
from fedmq.process.settings import CombinerSettings
from fedmq.process.wait_log import RoleWait, WaitLog, observe_all
from fedmq.runtime.effects import Fired
from fedmq.web.families import UNSETTLED, Family
from fedmq_combiner.actor import combiner_actor
from fedmq_combiner.core import CombinerCore
from fedmq_combiner.members.presence import BEAT
from fedmq_combiner.metrics import COMBINER_CLIENTS, OPEN_PLANS
from fedmq_combiner.traces import CombinerTraces
from fedmq_schemas.keys import ABSENT
from fedmq_schemas.role_accounts import role_account
from fedmq_schemas.topology import Topology


def waits_for(core: CombinerCore) -> RoleWait | None:
    """Returns what a combiner waits for before its work can begin."""
    if not core.is_welcomed:
        return RoleWait("no reducer has answered", "see ALLIANCE_UID, the versions, and whether another has this name")
    return None if core.clients else RoleWait("no client is here")


def main(settings: CombinerSettings) -> None:
    """Runs until SIGTERM. Raises ConfigError if a setting is wrong or a server refuses the account."""
    identity = claim(settings.state_dir, "combiner", settings.combiner_name, "combiner")
    service = Service("combiner", identity.name, settings)
    service.stack.callback(identity.close)
    broker = open_broker(settings.amqp_url.get_secret_value(), service.scheduler)
    topology = Topology(settings.alliance)
    blobs = open_blobs(settings)
    service.check_store(
        STORE, f"the S3 server at {settings.minio_host}:{settings.minio_port}", lambda: blobs.stat(ABSENT)
    )
    connection = broker.connect(f"combiner.{identity.name}")
    # Declared here too, so that messages wait for a reducer that starts later. An account of combiners alone may not declare
    # them: such a combiner repeats its hello until there is a reducer.
    if broker.account != role_account(topology, "combiner"):
        for queue in (topology.reducer(), topology.records(), topology.dead()):
            connection.declare(queue)

    def waits() -> RoleWait | None:
        assert isinstance(actor.core, CombinerCore)
        return waits_for(actor.core)

    wait_log = WaitLog(service.scheduler, waits)
    actor = combiner_actor(
        identity.name,
        connection,
        service.scheduler,
        topology,
        blobs=blobs,
        scratch=identity.folder / "scratch",
        presence=settings.presence,
        new_id=service.new_id,
        offload=True,
        shared_account=broker.account,
        stalls=service.stalls,
        observe=observe_all(
            service.telemetry,
            wait_log,
            *service.tracing(settings.traces_url, lambda spans: CombinerTraces(spans, identity.name)),
        ),
    )
    core = actor.core
    assert isinstance(core, CombinerCore)

    def details() -> Mapping[str, Any]:
        return {
            "clients": core.clients,
            "plans": core.open_plans,
            "waits": core.waits(),
            "waits_for": wait_log.report(),
        }

    def gauges() -> Mapping[Family, float]:
        return {
            COMBINER_CLIENTS: core.clients,
            OPEN_PLANS: core.open_plans,
            UNSETTLED: actor.unsettled,
        }

    def missing() -> str:
        return "" if core.is_registered else "no reducer has answered it yet, or another process of its name is served"

    service.run(
        [actor],
        connections=[connection],
        details=details,
        gauges=gauges,
        missing=missing,
        report=actor.publish_event,
        on_stall=lambda: actor.handle(Fired(BEAT)),
    )
