"""A combiner as a process of its own. `main` returns after SIGTERM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmq.brokers.registry import open_broker
from fedmq.process.connect import open_blobs
from fedmq.process.identity import claim
from fedmq.process.service import Service
from fedmq.process.settings import CombinerSettings
from fedmq_combiner.actor import combiner_actor
from fedmq_combiner.core import CombinerCore
from fedmq_schemas.topology import Topology


def main(settings: CombinerSettings) -> None:
    """Runs until SIGTERM. Raises ConfigError if a setting is wrong or a server refuses the account."""
    identity = claim(settings.state_dir, "combiner", settings.combiner_name, "combiner")
    service = Service("combiner", identity.name, settings)
    service.stack.callback(identity.close)
    broker = open_broker(settings.amqp_url.get_secret_value(), service.scheduler)
    topology = Topology(settings.alliance)
    connection = broker.connect(f"combiner.{identity.name}")
    # Declared here too, so that messages wait for a reducer that starts later.
    for queue in (topology.reducer(), topology.records(), topology.dead()):
        connection.declare(queue)
    actor = combiner_actor(
        identity.name,
        connection,
        service.scheduler,
        topology,
        blobs=open_blobs(settings),
        scratch=identity.folder / "scratch",
        presence=settings.presence,
        new_id=service.new_id,
        offload=True,
        shared_account=broker.account,
        observe=service.telemetry,
    )
    core = actor.core
    assert isinstance(core, CombinerCore)

    def details() -> Mapping[str, Any]:
        return {
            "broker": "connected" if connection.connected else "away",
            "clients": core.clients,
            "plans": core.open_plans,
            "waits": core.waits(),
        }

    def gauges() -> Mapping[str, float]:
        return {
            "broker_connected": connection.connected,
            "clients": core.clients,
            "open_plans": core.open_plans,
            "unsettled_messages": actor.unsettled,
        }

    service.run([actor], details=details, gauges=gauges)
