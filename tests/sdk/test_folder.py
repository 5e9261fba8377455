"""A sandbox's folder as an alliance from Python. tests/cli/test_places.py compares it with a served one."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest

from fedmq_sandbox import Sandbox
from fedmq_sdk import Alliance, ConfigError, NotFound, Refused
from support.servers.served import PACKAGE


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "a run"
    with Sandbox(PACKAGE, clients=3, workers=0, rounds=2, state_dir=folder) as box:
        box.run()
    return folder


def test_tables_of_a_folder_become_frames(run: Path) -> None:
    alliance = Alliance(state_dir=run)
    session = alliance.session(alliance.sessions()[0]["session"])
    assert session.rounds().to_pandas()["accepted"].tolist() == [3, 3]
    assert session.metrics().to_pandas()["test/mse"].is_monotonic_decreasing
    assert session.events().to_pandas()["name"].iloc[-1] == "session.finished"
    assert alliance.clients().to_pandas()["client"].tolist() == ["client1", "client2", "client3", "evaluator"]
    assert [row["round"] for row in alliance.trail("last")] == [2, 1, 0]
    assert len(alliance.ledger("last")["entries"]) == 3


def test_models_of_a_folder_are_read_inside_of_a_running_event_loop(run: Path) -> None:
    async def notebook() -> list[str]:
        return sorted(Alliance(state_dir=run).weights("best"))

    assert asyncio.run(notebook()) == ["coefficients", "intercept"]


def test_a_folder_is_only_read(run: Path) -> None:
    alliance = Alliance(state_dir=run)
    with pytest.raises(Refused, match=r"--state-dir '\S+/a run' --serve"):
        alliance.start(rounds=1)
    with pytest.raises(Refused, match="only read here"):
        alliance.upload({"w": np.zeros(1)})
    with pytest.raises(NotFound, match="there is no session 'none'"):
        alliance.session("none")


def test_a_sandbox_writes_on_while_its_folder_is_open_in_the_same_process(tmp_path: Path) -> None:
    with Sandbox(PACKAGE, clients=3, workers=0, rounds=4, state_dir=tmp_path / "run") as box:
        alliance = Alliance(state_dir=tmp_path / "run")
        counts = [(each.number, len(alliance.session(each.session).rounds())) for each in box.rounds()]
    assert all(number <= count for number, count in counts)
    assert alliance.sessions()[0]["rounds_committed"] == 4
    assert not (tmp_path / "run" / "records.db-wal").exists()


def test_one_place_is_given_and_it_exists(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not both"):
        Alliance("http://localhost:8090", state_dir=tmp_path)
    with pytest.raises(ConfigError, match="is no folder of a sandbox"):
        Alliance(state_dir=tmp_path)


def test_without_the_servers_libraries_the_error_names_the_extra(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fedmq_sandbox.folder", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedmq\[server\]'"):
        Alliance(state_dir=run)
