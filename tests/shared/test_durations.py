"""The queue and the duration of sessions."""

from __future__ import annotations

from typing import Any

import pytest

from fedmq.records.durations import began_at, seconds_queued, seconds_run

CREATED = {"created_at": 100.0, "ended_at": None}
QUEUED = {**CREATED, "started_at": None}
RUNNING = {**CREATED, "started_at": 880.0}
ENDED = {**RUNNING, "ended_at": 900.0}
STOPPED_IN_THE_QUEUE = {**QUEUED, "ended_at": 150.0}
OF_AN_OLDER_VERSION = {**CREATED, "ended_at": 150.0}


@pytest.mark.parametrize(
    ("session", "began", "queued", "run"),
    [
        (QUEUED, 100.0, None, None),
        (RUNNING, 880.0, 780.0, None),
        (ENDED, 880.0, 780.0, 20.0),
        (STOPPED_IN_THE_QUEUE, 100.0, None, None),
        (OF_AN_OLDER_VERSION, 100.0, None, 50.0),
    ],
)
def test_a_session_runs_from_its_start_and_is_queued_before(
    session: dict[str, Any], began: float, queued: float | None, run: float | None
) -> None:
    assert (began_at(session), seconds_queued(session), seconds_run(session)) == (began, queued, run)
