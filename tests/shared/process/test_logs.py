"""Logs of roles: the fields that the documents name, on one line."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from fedmq.process.logs import JsonLine

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
