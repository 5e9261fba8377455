"""A client as a process of its own. It connects to the broker and to URLs that it receives, and listens nowhere."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import partial
from typing import Any

from fedmq import __version__
from fedmq.blobs.base import STORE
from fedmq.brokers.registry import open_broker
from fedmq.errors import ConfigError
from fedmq.process.identity import claim
from fedmq.process.service import Service
from fedmq.process.settings import ClientSettings
from fedmq.process.wait_log import RoleWait, WaitLog, observe_all
from fedmq.web.families import UNSETTLED, Family
from fedmq_client.packages.commands import prepare
from fedmq_client.packages.package import load
from fedmq_client.personal.folder import PersonalFolder, fetched_into
from fedmq_client.pool.processes import ProcessPool
from fedmq_client.role.actor import OUTPUT_LOG, client_actor
from fedmq_client.role.core import ClientCore, State
from fedmq_client.role.folder_store import FolderStore
from fedmq_client.role.model_cache import Models
from fedmq_client.role.site_log import SiteLog
from fedmq_client.role.traces import ClientTraces
from fedmq_client.trainer import Client
from fedmq_schemas.messages import Attach
from fedmq_schemas.topology import Topology


def waits_for(answer: str | None) -> RoleWait | None:
    """Returns what a client waits for after this answer of the reducer; see `SiteLog.waits`."""
    if answer is None:
        return RoleWait("no reducer has answered", "see ALLIANCE_UID and the versions")
    return RoleWait(answer, "see the reducer's log") if answer else None


def main(settings: ClientSettings) -> None:
    """Runs until SIGTERM. Raises ConfigError if a setting or the package is wrong, or the broker refuses the account."""
    package = load(settings.package)
    prepare(package, settings.package_form, settings.package_env)
    identity = claim(settings.state_dir, "client", settings.client_name, settings.client_name_base)
    service = Service("client", identity.name, settings)
    service.stack.callback(identity.close)
    pool = ProcessPool(1, settings.client_device)
    service.stack.callback(pool.close, 1.0)
    client = Client(
        name=identity.name,
        labels=settings.client_labels,
        data=settings.data_path,
        device=settings.client_device,
        state_dir=identity.folder,
        tasks=settings.client_tasks,
        dirichlet=settings.dirichlet,
        form=settings.package_form,
        python_env=settings.package_env,
    )
    attach = Attach(
        labels=settings.client_labels,
        tasks=settings.client_tasks,
        weight=settings.client_weight,
        package=package.sha256,
        software=f"fedmq {__version__}",
        instance=secrets.token_hex(4),
    )

    def end(reason: str) -> None:
        raise ConfigError(reason)

    site_log = SiteLog(
        identity.name,
        attach,
        settings.alliance,
        service.scheduler.now,
        lambda reason: service.scheduler.post(partial(end, reason)),
    )
    wait_log = WaitLog(service.scheduler, lambda: waits_for(site_log.waits))
    models = identity.folder / "models"
    personal = PersonalFolder(
        identity.folder / "personal", fetched_into(models), settings.personal_days, settings.personal_sessions
    )
    broker = open_broker(settings.amqp_url.get_secret_value(), service.scheduler)
    service.report_store(STORE)
    connection = broker.connect(f"client.{identity.name}")
    actor = client_actor(
        client,
        attach,
        settings.package,
        connection,
        service.scheduler,
        Topology(settings.alliance),
        pool=pool,
        store=FolderStore(identity.folder / "finished", personal),
        models=Models(models),
        new_id=service.new_id,
        output_log=identity.folder / OUTPUT_LOG,
        stalls=service.stalls,
        observe=observe_all(
            service.telemetry,
            site_log,
            wait_log,
            *service.tracing(settings.traces_url, lambda spans: ClientTraces(spans, identity.name)),
        ),
        detail=settings.error_detail,
        on_fault=site_log.failed,
    )
    core = actor.core
    assert isinstance(core, ClientCore)

    def details() -> Mapping[str, Any]:
        return {
            "state": core.state.value,
            "combiner": core.combiner,
            "waits_for": wait_log.report(),
            "instance": attach.instance,
        }

    def gauges() -> Mapping[Family, float]:
        return {UNSETTLED: actor.unsettled}

    def missing() -> str:
        return "" if core.state is State.ATTACHED else f"its state is {core.state.value}"

    service.run([actor], connections=[connection], details=details, gauges=gauges, missing=missing)
