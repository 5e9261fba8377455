"""`fedmq sandbox --serve`: one running process, driven by curl, by the command and from Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmq_sdk import Alliance
from support.servers.ports import free_ports

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "examples" / "numpy_regression" / "client"
FEDMQ = [sys.executable, "-m", "fedmq_cli.app"]


@contextmanager
def _serving(folder: Path, port: int | None = None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`port`: that of the settings, in place of any port."""
    words = ["sandbox", "--package", str(PACKAGE), "--serve", "--workers", "1", "--state-dir", "state"]
    words += ["--port", "0"] if port is None else []
    settings = {} if port is None else {"FEDN_REDUCER_PORT": str(port)}
    with subprocess.Popen(
        [*FEDMQ, *words],
        cwd=folder,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert "(this machine only)" in line, process.communicate()
            yield line.partition(" at ")[2].partition(" ")[0], process
        finally:
            process.kill()


def _fedmq(url: str, folder: Path, *words: str) -> str:
    done = subprocess.run(
        [*FEDMQ, *words, "--url", url], capture_output=True, text=True, cwd=folder, timeout=60, check=True
    )
    return done.stdout


def test_curl_the_command_and_python_drive_one_alliance(tmp_path: Path) -> None:
    with _serving(tmp_path) as (url, process):
        answer = subprocess.run(["curl", "-s", f"{url}/start"], capture_output=True, text=True, check=True).stdout
        first = json.loads(answer)["session"]
        (tmp_path / "session.toml").write_text("rounds = 3\n[train]\nlearning_rate = 0.5\n")
        assert "final model" in _fedmq(url, tmp_path, "start", "session.toml", "--follow")
        ended = Alliance(url).start(rounds=2).wait(60)
        assert ended["rounds_committed"] == 2
        sessions = Alliance(url).sessions()
        assert [each["rounds_committed"] for each in sessions] == [2, 3, 5]
        assert sessions[2]["session"] == first
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "open sessions go on with: fedmq sandbox" in complaint


def test_a_session_goes_on_where_the_killed_server_left_it(tmp_path: Path) -> None:
    with _serving(tmp_path) as (url, process):
        session = Alliance(url).start(rounds=200)
        for event in session.follow():
            if event["name"] == "round.committed":
                break
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
    with _serving(tmp_path) as (url, _):
        document = Alliance(url).session(session.id).wait(100)
        assert document["rounds_committed"] == 200


def test_options_of_a_session_have_no_place_where_nothing_is_trained(tmp_path: Path) -> None:
    words = ["sandbox", "--package", str(PACKAGE), "--serve", "--rounds", "3"]
    done = subprocess.run([*FEDMQ, *words], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, "give rounds and the like to `fedmq start`" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_one_complaint(tmp_path: Path) -> None:
    with _serving(tmp_path) as (url, _):
        port = url.rpartition(":")[2]
        words = ["sandbox", "--package", str(PACKAGE), "--serve", "--port", port, "--workers", "0", "--state-dir", "x"]
        done = subprocess.run([*FEDMQ, *words], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert f"can't listen on 127.0.0.1:{port}" in done.stderr


def test_the_port_is_that_of_the_settings_where_all_verbs_look_for_it(tmp_path: Path) -> None:
    [port] = free_ports(1)
    with _serving(tmp_path, port) as (url, _):
        assert url == f"http://127.0.0.1:{port}"
