"""A dashboard that is there, slow or killed changes nothing in a session."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from dashboard.small_world import TRAINER, train_into
from fedmq.records.sqlite import SqliteRecords
from fedmq_schemas import records as tables
from support.packages import write_package

ROUNDS = 30
_CODE = """
import sys
from pathlib import Path
from fedmq.process.settings import DashboardSettings
from fedmq_dashboard.process import show_state_dir
show_state_dir(Path(sys.argv[1]), DashboardSettings.model_construct(dashboard_port=0))
"""


def _final_hash(state_dir: Path) -> str:
    records = SqliteRecords(state_dir / "records.db")
    newest = records.find(tables.ROUNDS, order="round", descending=True, limit=1)[0]
    records.close()
    assert newest["round"] == ROUNDS
    return str(newest["model"]["sha256"])


def _begin_dashboard(state_dir: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-c", _CODE, str(state_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, line.split(" is at ")[1].split()[0]


def test_a_session_is_the_same_with_a_dashboard_that_is_stopped_and_killed(tmp_path: Path) -> None:
    package = write_package(tmp_path / "package", TRAINER)
    train_into(tmp_path / "alone", package, ROUNDS)

    watched = tmp_path / "watched"
    SqliteRecords(watched / "records.db").close()
    process, url = _begin_dashboard(watched)
    try:
        training = threading.Thread(target=train_into, args=(watched, package, ROUNDS))
        with httpx.stream("GET", f"{url}/stream", timeout=30) as stream:
            training.start()
            next(stream.iter_lines())
            process.send_signal(signal.SIGSTOP)  # it holds its reads open and reads nothing more
        training.join(60)
        assert not training.is_alive()
    finally:
        process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
    assert _final_hash(watched) == _final_hash(tmp_path / "alone")


def test_a_dashboard_leaves_the_folder_of_an_ended_run_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train_into(folder, write_package(tmp_path / "package", TRAINER), 2)
    before = {each: (each.stat().st_size, each.stat().st_mtime_ns) for each in (folder, *folder.rglob("*"))}
    process, url = _begin_dashboard(folder)
    try:
        assert len(httpx.get(f"{url}/export/table.json").json()) == 3
        seen = {each: (each.stat().st_size, each.stat().st_mtime_ns) for each in (folder, *folder.rglob("*"))}
    finally:
        process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
    assert seen == before


def test_a_dashboard_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    SqliteRecords(tmp_path / "records.db").close()
    process, url = _begin_dashboard(tmp_path)
    assert httpx.get(f"{url}/health").json()["status"] == "ok"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert process.stdout is not None
    process.stdout.close()
