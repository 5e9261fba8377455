"""A round that stands still is reported once, with the clients that have not answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO
from typing import Any, cast

import pytest
from rich.console import Console

from fedmq_cli import awaiting
from fedmq_cli.awaiting import Quiet, awaited_jobs_text, awaited_text
from fedmq_cli.open_round import print_open_round
from fedmq_cli.output import local_time
from fedmq_cli.progress import SessionProgress
from fedmq_cli.views import LiveView, watch
from fedmq_client.pool.awaited import AwaitedJob
from fedmq_client.pool.inline import RunningJob
from fedmq_schemas.messages import Event
from fedmq_sdk import SessionHandle
from support.waiting import until


def _event(name: str, **data: Any) -> Event:
    return Event(name=name, session="s1", round=1, data=data)


def test_a_line_is_due_once_an_attempt_after_ten_quiet_seconds() -> None:
    quiet = Quiet(0.0)
    quiet.note(_event("round.planned"), 1.0)
    quiet.note(_event("update.accepted"), 5.0)
    assert [quiet.is_due(at) for at in (14.9, 15.0, 60.0)] == [False, True, False]
    quiet.note(_event("round.planned"), 61.0)
    assert [quiet.is_due(at) for at in (70.9, 71.0)] == [False, True]


def test_presence_of_others_is_not_an_answer() -> None:
    quiet = Quiet(0.0)
    quiet.note(_event("round.planned"), 0.0)
    quiet.note(_event("client.vanished"), 9.0)
    assert quiet.is_due(10.0)


def test_a_round_that_takes_as_long_as_those_before_it_does_not_stand_still() -> None:
    quiet = Quiet(0.0)
    quiet.note(_event("round.committed", seconds=60.0), 0.0)
    quiet.note(_event("round.planned"), 0.0)
    assert [quiet.is_due(at) for at in (59.0, 60.0)] == [False, True]


def test_the_time_of_a_stop_is_not_that_of_a_slow_round() -> None:
    quiet = Quiet(0.0)
    quiet.note(_event("round.committed", seconds=3612.0, resumed_after=3600.0), 0.0)
    assert [quiet.is_due(at) for at in (11.0, 12.0)] == [False, True]


def _open(*outcomes: str | None, attempt: int = 1) -> dict[str, Any]:
    clients = [{"client": f"c{number}", "outcome": outcome} for number, outcome in enumerate(outcomes)]
    return {"round": 2, "attempt": attempt, "since": 0.0, "deadline": 180.0, "clients": clients}


def _validation(*outcomes: str | None) -> dict[str, Any]:
    found = _open(*outcomes)
    clients = [{**client, "combiner": "k1", "at": None, "reason": ""} for client in found["clients"]]
    return {"round": found["round"], "since": found["since"], "deadline": found["deadline"], "clients": clients}


def test_the_line_names_who_is_awaited_since_when_and_until_when() -> None:
    text = awaited_text(_open(None, "accepted", attempt=2), 30.0)
    assert text.startswith("round 2, attempt 2: 1 of 2 clients have not answered since 19")
    assert text.endswith(": c0; the deadline is in 3 min") or text.endswith(": c0; the deadline is in 2 min")
    assert awaited_text(_open(*[None] * 7), 200.0).endswith(": c0, c1, c2, c3, c4 and 2 more")
    assert awaited_text(_open("accepted"), 0.0) == ""


def test_after_a_resume_the_line_counts_from_the_start_of_the_process_that_sends_the_tasks_again() -> None:
    day = 24 * 3600.0
    resumed = awaited_text(_open(None), day + 30.0, began=day)
    assert resumed.startswith("round 2: 1 of 1 clients have not answered since " + local_time(day))
    assert resumed.endswith(": c0; the deadline is in 2 min"), resumed
    begun = awaited_text(_open(None), 30.0, began=-day)
    assert f"since {local_time(0.0)}: " in begun and begun.endswith("; the deadline is in 2 min"), begun


def test_where_this_process_trains_the_line_says_where_the_trainer_is_and_who_waits_for_it() -> None:
    begun = awaited_text(_open(None, None, None), 30.0, RunningJob("c1", "train", "trainer.py:18 in train"))
    assert begun.startswith("round 2: 3 of 3 clients have not answered since 19")
    remedy = "no deadline stops a trainer with --workers 0: leave --workers out"
    assert begun.endswith(f": c1's trainer is in trainer.py:18 in train, and c0, c2 wait behind it; {remedy}")
    alone = awaited_text(_open(None), 30.0, RunningJob("c0", "train", "trainer.py:18 in train"))
    assert alone.endswith(f": c0's trainer is in trainer.py:18 in train; {remedy}")
    first = awaited_text(None, 30.0, RunningJob("init", "init", "trainer.py:9 in init"))
    assert first == f"init's trainer is in trainer.py:9 in init; {remedy}"
    assert awaited_text(None, 30.0) == ""


class Served:
    """A session of a reducer in which nobody answers what is `open` before a line was shown."""

    id = "s1"

    def __init__(self, stream: StringIO, **open: dict[str, Any] | None) -> None:
        self._stream = stream
        self._open = open

    def refresh(self) -> dict[str, Any]:
        return {"policy": {"rounds": 1}, **self._open}

    def follow(self) -> Iterator[dict[str, Any]]:
        yield _event("round.planned", clients=2, attempt=1).model_dump()
        until(lambda: self._stream.getvalue() != "", "a line")


def test_a_session_that_is_followed_says_whom_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaiting, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(awaiting, "PERIOD", 0.01)
    stream = StringIO()
    watch(cast(SessionHandle, Served(stream, open_round=_open(None, None))), stream)
    assert "round 2: 2 of 2 clients have not answered since " in stream.getvalue()
    stream = StringIO()
    served = Served(stream, open_round=None, open_validation=_validation(None, "validated"))
    watch(cast(SessionHandle, served), stream)
    assert "validation of model 2: 1 of 2 clients have not answered since " in stream.getvalue()


def test_a_sessions_view_lists_whom_its_last_validation_awaits(capsys: pytest.CaptureFixture[str]) -> None:
    print_open_round(_validation(None, "validated"))
    shown = capsys.readouterr().out
    assert "\nvalidation of model 2 is open: 1 of 2 clients have answered, deadline " in shown
    assert re.search(r"c0 +k1 +not yet, asked ", shown) and re.search(r"c1 +k1 +validated\b", shown), shown


def test_the_deadline_of_a_validation_is_as_recorded_also_after_this_process_resumed_it() -> None:
    """The reducer records it anew when it sends the tasks again: 85 s were left of 30."""
    found = _validation(None) | {"since": 0.0, "deadline": 90_030.0}
    text = awaited_text(found, 90_000.0, began=90_000.0)
    assert re.search(r"; the deadline is in 30(\.0)? s$", text), text


def test_jobs_before_the_first_round_are_named_with_their_place_and_their_end() -> None:
    init = AwaitedJob("init", "init", since=0.0, ends=600.0, place="trainer.py:9 in init")
    text = awaited_jobs_text([init], 10.0)
    assert text.startswith("the first model is awaited since 19")
    assert text.endswith(": init's trainer is in trainer.py:9 in init; it is given up in 10 min")
    silent = awaited_jobs_text([AwaitedJob("evaluator", "describe", 0.0, 600.0), init], 610.0)
    assert silent.startswith("the answer whether an evaluator scores is awaited since 19")
    assert "; the first model is awaited since 19" in silent and "given up" not in silent
    assert awaited_jobs_text([], 10.0) == ""


def test_the_live_table_shows_which_client_the_process_trains() -> None:
    progress, stream = SessionProgress(1, clients={"client1": "ready", "client2": "ready"}), StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    with LiveView(progress, console, running=lambda: RunningJob("client2", "train", "trainer.py:18 in train")):
        pass
    assert "client1 ready   client2 training" in stream.getvalue()
