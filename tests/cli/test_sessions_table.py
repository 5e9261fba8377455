"""The table of `fedmq sessions`."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from fedmq_cli.app import app


def listed(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> list[str]:
    """Returns the row of a session that was created at 100 s."""
    session = {
        "session": "s",
        "name": "n",
        "policy": {"rounds": 40},
        "rounds_committed": 20,
        "created_at": 100.0,
        "model": "m",
        "reason": "",
        "waiting": "",
        **fields,
    }
    monkeypatch.setattr("fedmq_sdk.Alliance.sessions", lambda *_, **__: [session])
    titles, row = CliRunner().invoke(app, ["sessions"]).stdout.splitlines()[:2]
    assert titles.split() == ["session", "name", "state", "rounds", "began", "took", "model", "queued", "note"]
    return row.split()


def test_the_time_in_the_queue_is_apart_from_the_time_that_a_session_took(monkeypatch: pytest.MonkeyPatch) -> None:
    row = listed(monkeypatch, state="stopped", started_at=880.0, ended_at=900.0)
    assert row[2:4] == ["stopped", "20/40"]
    assert row[-5:] == ["20.0", "s", "m", "13", "min"]


def test_a_session_in_the_queue_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    row = listed(monkeypatch, state="queued", started_at=None, ended_at=None)
    assert row == ["s", "n", "queued", "20/40", "m"]
