"""The dashboard as a process: for an alliance, or for the state directory of a sandbox."""

from __future__ import annotations

import shlex
import signal
import threading
from pathlib import Path

from fedmq.brokers.registry import open_broker
from fedmq.errors import ConfigError
from fedmq.process.connect import open_records
from fedmq.process.exposure import open_port
from fedmq.process.identity import process_name
from fedmq.process.lock import FOLDER_LOCK, is_locked
from fedmq.process.service import Service
from fedmq.process.settings import DashboardSettings
from fedmq.process.signals import on_first_signal
from fedmq.records.base import STORE, Records
from fedmq.records.sqlite_reading import SqliteReader
from fedmq_dashboard.live import Live
from fedmq_dashboard.observer import Observer, Tail
from fedmq_dashboard.serve import DashboardServer
from fedmq_schemas import records as tables
from fedmq_schemas.topology import Topology


def main(settings: DashboardSettings) -> None:
    """Shows an alliance until SIGTERM. Raises ConfigError if a setting is wrong or a server refuses the account."""
    name = process_name()
    access = open_port(settings, settings.dashboard_bind, "FEDN_DASHBOARD_BIND", (settings.dashboard_host,))
    service = Service("dashboard", name, settings)
    records, live = open_records(settings), Live()
    service.check_store(STORE, records.where, lambda: records.get(tables.SYSTEM, "queues"))
    service.stack.callback(records.close)
    server = DashboardServer(records, live, settings.dashboard_bind, settings.dashboard_port, settings.alliance, access)
    service.stack.callback(server.stop)
    server.start()
    broker = open_broker(settings.amqp_url.get_secret_value(), service.scheduler)
    connection, topology = broker.connect("dashboard"), Topology(settings.alliance)
    observer = Observer(connection, service.scheduler, topology, live, Tail(records, live), name)
    service.run([observer], connections=[connection])


def open_state_dir(state_dir: Path) -> SqliteReader:
    """Returns the records of a sandbox, to be read only. Raises ConfigError if there are none."""
    path = state_dir / "records.db"
    if not path.is_file():
        raise ConfigError(f"there are no records in {state_dir}: give the --state-dir of a sandbox")
    return SqliteReader(path)


def interruption(records: Records, state_dir: Path) -> str:
    """Returns that the newest open session was interrupted if no sandbox runs in the folder; empty otherwise."""
    newest = records.find(tables.SESSIONS, order="created_at", descending=True, limit=1)
    if not newest or newest[0]["state"] in tables.ENDED or is_locked(state_dir / FOLDER_LOCK):
        return ""
    return (
        f"Session {newest[0]['session']} was interrupted: its sandbox does not run now, and this is what it recorded last. "
        f"How to go on: fedmq status --state-dir {shlex.quote(str(state_dir))}"
    )


def show_state_dir(state_dir: Path, settings: DashboardSettings) -> None:
    """Shows a sandbox's records, also while it runs, until SIGINT or SIGTERM. Raises ConfigError."""
    host, port = settings.dashboard_bind, settings.dashboard_port
    access = open_port(settings, host, "FEDN_DASHBOARD_BIND", (settings.dashboard_host,))
    records, live = open_state_dir(state_dir), Live()
    tail = Tail(records, live, remark=lambda: interruption(records, state_dir))
    server = DashboardServer(records, live, host, port, state_dir.resolve().name, access)
    ended = threading.Event()
    with on_first_signal([signal.SIGINT, signal.SIGTERM], ended.set):
        tail.start()
        server.start()
        print(f"The dashboard of {state_dir} is at {server.url} (Ctrl-C ends it)", flush=True)
        ended.wait()
        server.stop()
        tail.stop()
        records.close()
