"""Log lines on the terminal of a sandbox: each mishap of a worker once, with its count, and all of a trainer's."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fedmq_cli.logs import logged_to


def test_lines_that_are_alike_are_shown_once_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with logged_to(tmp_path / "sandbox.log"):
        for number in range(4):
            logging.getLogger("fedmq_client.pool").warning("worker %d ended with exit code 3", number)
        logging.getLogger("fedmq_client.pool").warning("another mishap")
    first, other, count = capsys.readouterr().err.splitlines()
    assert first.endswith("fedmq_client.pool worker 0 ended with exit code 3")
    assert other.endswith("another mishap")
    assert count == "3 more log lines like those above: see sandbox.log"
    assert (tmp_path / "sandbox.log").read_text().count("ended with exit code 3") == 4


def test_each_warning_of_a_trainer_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with logged_to(tmp_path / "sandbox.log"):
        for number in range(3):
            logging.getLogger("trainer").warning("epoch %d diverges", number)
    assert capsys.readouterr().err.count("diverges") == 3


def test_a_log_file_that_can_not_be_written_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    with logged_to(Path("/dev/full")):
        for number in range(3):
            logging.getLogger("trainer").info("epoch %d", number)
    assert capsys.readouterr().err.splitlines() == [
        "/dev/full can't be written, and lacks lines: [Errno 28] No space left on device"
    ]
