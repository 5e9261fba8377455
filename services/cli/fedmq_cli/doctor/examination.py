"""Which checks `fedmq doctor` runs for a role, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from fedmq import tls
from fedmq.errors import ConfigError
from fedmq.process.settings import (
    ROLES,
    AllianceSettings,
    BlobSettings,
    ClientSettings,
    CombinerSettings,
    ControlSettings,
    DashboardSettings,
    RecordSettings,
    ReducerSettings,
    TrustSettings,
)
from fedmq_cli.doctor import api_checks, broker_checks, site_checks, store_checks
from fedmq_cli.doctor.findings import Check, Finding, find
from fedmq_cli.doctor.inquiry import Inquired, inquire


def settings_of(role: str) -> TrustSettings:
    """Returns the settings that the role would read. Raises ConfigError that names each bad value."""
    if role not in ROLES:
        raise ConfigError(f"there is no role {role!r}: {', '.join(ROLES)}")
    settings = ROLES[role].load()
    assert isinstance(settings, TrustSettings)
    return settings


def examine(settings: TrustSettings) -> Iterator[Finding]:
    """Yields each finding as soon as its check has ended. Raises ConfigError for an unusable file of authorities.

    Who consumes from a broker is not examined if the broker has a fault.
    """
    tls.trust(settings.ca_file)
    has_broker = True
    for what, check in _checks(settings):
        if has_broker or what not in ("reducer", "client name", "combiner name"):
            found = find(what, check)
            has_broker = has_broker and (what != "broker" or found.verdict != "fault")
            yield found


def _checks(settings: TrustSettings) -> Iterator[tuple[str, Check]]:
    control = settings if isinstance(settings, ControlSettings) else ControlSettings.load()
    # A client and a combiner need not reach the API; its default address would be that of another machine.
    knows_api = isinstance(settings, ControlSettings) or "reducer_host" in control.model_fields_set
    inquired = cache(lambda: inquire(settings) if isinstance(settings, ClientSettings) else Inquired())
    if knows_api:
        yield "versions", lambda: api_checks.versions(control)
    elif isinstance(settings, ClientSettings):
        yield "versions", lambda: api_checks.version_over_broker(inquired())
    else:
        yield "versions", api_checks.own_version
    if isinstance(settings, AllianceSettings):
        yield from _alliance_checks(settings)
    if isinstance(settings, CombinerSettings):
        yield "combiner name", lambda: broker_checks.combiner_name(settings)
    if isinstance(settings, BlobSettings):
        yield "blob store", lambda: store_checks.blobs(settings)
        yield "clock", lambda: store_checks.clock(settings)
    if isinstance(settings, RecordSettings):
        yield "record store", lambda: store_checks.records(settings)
    if isinstance(settings, ControlSettings) and not isinstance(settings, DashboardSettings):
        yield "API", lambda: api_checks.api(settings)
    if isinstance(settings, ReducerSettings):
        yield "admin token", lambda: api_checks.access(settings, settings.reducer_bind, "FEDN_REDUCER_BIND")
    if isinstance(settings, DashboardSettings):
        host, port = settings.dashboard_bind, settings.dashboard_port
        yield "port", lambda: api_checks.port(host, port, "FEDN_DASHBOARD_PORT", "the dashboard")
        yield "admin token", lambda: api_checks.access(settings, host, "FEDN_DASHBOARD_BIND")
    if isinstance(settings, ClientSettings):
        yield "client name", lambda: broker_checks.client_name(settings)
        yield "blob store", lambda: store_checks.public_store(settings)
        yield "clock", lambda: store_checks.client_clock(settings, inquired)
        yield "data", lambda: site_checks.data(settings.data_path)
        yield "package", lambda: site_checks.package(settings)


def _alliance_checks(settings: AllianceSettings) -> Iterator[tuple[str, Check]]:
    yield "state folder", lambda: site_checks.state_folder(settings.state_dir)
    if settings.health_port is not None:
        host, number = settings.health_bind, settings.health_port
        yield "health port", lambda: api_checks.port(host, number, "FEDN_HEALTH_PORT", "/health")
        yield "health token", lambda: api_checks.access(settings, host, "FEDN_HEALTH_BIND")
    yield "broker", lambda: broker_checks.broker(settings)
    if isinstance(settings, ReducerSettings):
        yield "file handles", lambda: broker_checks.file_handles(settings)
        yield "client accounts", lambda: broker_checks.client_accounts(settings)
    else:
        yield "reducer", lambda: broker_checks.reducer(settings)
