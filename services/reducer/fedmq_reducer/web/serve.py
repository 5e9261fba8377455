"""Serves the REST API and the control page of a reducer process, also of one that stands by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedmq.blobs.base import Blobs
from fedmq.brokers.base import Broker
from fedmq.process.settings import ReducerSettings
from fedmq.records.base import Records
from fedmq.scheduler import Scheduler
from fedmq_reducer.web.api.context import ApiContext
from fedmq_reducer.web.api.feed import EventStream
from fedmq_reducer.web.api.publisher import ControlPublisher
from fedmq_reducer.web.api.server import ApiServer
from fedmq_reducer.web.app import create_app
from fedmq_schemas.topology import Topology

LOCAL = ("127.0.0.1", "localhost", "::1")


def serve_api(
    settings: ReducerSettings,
    broker: Broker,
    account: str,
    scheduler: Scheduler,
    *,
    blobs: Blobs,
    records: Records,
    scratch: Path,
    name: str,
    new_id: Callable[[], str],
) -> ApiServer:
    """Returns the server, bound to the port that the settings name. Raises ConfigError if the port is taken."""
    topology = Topology(settings.alliance)
    feed = EventStream()
    control, events = broker.connect("api"), broker.connect("api.feed")
    scheduler.post(lambda: feed.watch(events, topology, name))
    token = settings.admin_token
    context = ApiContext(
        alliance=settings.alliance,
        records=records,
        blobs=blobs,
        publish=ControlPublisher(control, scheduler, topology, account),
        feed=feed,
        new_id=new_id,
        scratch=scratch,
        admin_token=token.get_secret_value() if token is not None else None,
        local_only=settings.reducer_bind in LOCAL,
    )
    return ApiServer(
        create_app(context),
        settings.reducer_bind,
        settings.reducer_port,
        certificate=settings.reducer_tls_cert,
        key=settings.reducer_tls_key,
    )
