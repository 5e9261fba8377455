"""Logs of roles: the fields that the documents name, on one line."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from fedmq.process.logs import JsonLine, configure_service_logs

MONITOR = Path(__file__).parents[3] / "docs" / "how-to" / "monitor.md"
ALWAYS = ["at", "level", "logger", "message", "role", "name"]


def test_a_line_has_the_fields_of_every_line_and_then_those_of_its_message() -> None:
    record = logging.makeLogRecord({"name": "fedmq", "levelno": 20, "levelname": "INFO", "msg": "waits\nstill"})
    record.reason = "no reducer"
    text = JsonLine({"role": "client", "name": "c1"}).format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert list(line) == [*ALWAYS, "reason"]
    assert (line["level"], line["message"], line["reason"]) == ("info", "waits\nstill", "no reducer")
    named = MONITOR.read_text().partition("Each line has ")[2].partition(";")[0]
    assert all(f"`{name}`" in named for name in ALWAYS)


def test_uvicorns_second_copy_of_a_message_with_codes_of_a_terminal_is_left_out() -> None:
    record = logging.makeLogRecord({"msg": "Started", "color_message": "\u001b[36mStarted\u001b[0m"})
    assert "36m" not in JsonLine({}).format(record)


def test_an_orderly_end_of_a_connection_logs_nothing_critical(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure_service_logs("info", role="combiner")
        pika = logging.getLogger("pika.connection")
        pika.critical("Connection in CLOSING state has non-CLOSING channels: %r", ["<Channel>"])
        pika.critical("something else")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "something else"
