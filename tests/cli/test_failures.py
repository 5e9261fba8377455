"""A mistake that many clients make is shown once, with its traceback and its output, and is counted."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedmq_cli.failures import Failures, last_part
from fedmq_cli.progress import SessionProgress
from fedmq_cli.views import LiveView, PlainView
from fedmq_schemas.messages import Event

REASON = "train raised KeyError: 'epochs'"
TRACE = "Traceback (most recent call last):\n  File \"trainer.py\", line 9, in train\nKeyError: 'epochs'\n"
OUTPUT = "--- last lines of output ---\nepoch 1\nepoch 2\n"
RETRIED = f"round 1 got 0 updates of 1: 3 of 3 clients failed: {REASON}"


def _event(name: str, client: str | None = None, round: int | None = 1, **data: Any) -> Event:
    return Event(name=name, session="s1", round=round, client=client, data=data)


def _failed(client: str, reason: str = REASON, traceback: str = TRACE + OUTPUT) -> Event:
    return _event("update.failed", client, reason=reason, traceback=traceback)


def _shown(*events: Event, folder: Path | None = None) -> list[str]:
    progress, stream = SessionProgress(2), StringIO()
    view = PlainView(progress, stream, Failures(folder))
    for event in events:
        progress.feed(event)
        view.event(event)
    return stream.getvalue().splitlines()


def test_one_mistake_is_shown_once_with_its_traceback_and_counted_when_the_attempt_is_over() -> None:
    attempt = [_failed("b"), _failed("a"), _failed("c")]
    retried = [_event("round.retried", reason=RETRIED, attempt=number) for number in (1, 2)]
    assert _shown(*attempt, retried[0], *attempt, retried[1], *attempt, _event("session.failed", reason="…")) == [
        f"b: failed: {REASON}",
        "  Traceback (most recent call last):",
        '    File "trainer.py", line 9, in train',
        "  KeyError: 'epochs'",
        "  last lines of its output, the newest of which is in output.log (older: output.log.1, if there is one) in the "
        "state folder of b:",
        "    epoch 1",
        "    epoch 2",
        "2 more clients failed alike",
        RETRIED,
        "attempt 2: the same",
    ]


def test_another_mistake_is_shown_too_and_counts_name_their_first_client() -> None:
    shown = _shown(
        _failed("a", traceback=""),
        _event("update.abstained", "b", reason="train returned None"),
        _failed("c", traceback=""),
        _event("update.absent", "d"),
        _event("update.absent", "e"),
        _event("update.absent", "f"),
        _event("round.committed", seconds=1.0, counts={"accepted": 1}, model="m"),
    )
    assert shown == [
        f"a: failed: {REASON}",
        "b: abstained: train returned None",
        "d: absent",
        "1 more client failed alike, as a did",
        "2 more clients were absent alike, as d did",
        "round 1 of 2: 1 of 1 accepted, 1.0 s",
    ]


def test_a_mistake_of_an_earlier_round_is_counted_by_the_line_of_its_round() -> None:
    committed = _event("round.committed", seconds=1.0, counts={"accepted": 1, "failed": 1}, model="m")
    first, *rest = _shown(_failed("a", traceback=""), committed, _failed("a", traceback=""), committed)
    assert first == f"a: failed: {REASON}"
    assert rest == ["round 1 of 2: 1 of 2 accepted, 1 failed, 1.0 s"] * 2


def test_reasons_that_differ_in_numbers_only_are_one_mistake() -> None:
    norms = [_event("update.rejected", name, reason=f"its norm is {name}.7, and the policy allows 2") for name in "123"]
    over = _event("round.retried", reason="round 1 got 0 updates of 1", attempt=1)
    assert _shown(*norms, over)[:2] == [
        "1: rejected: its norm is 1.7, and the policy allows 2",
        "2 more clients were rejected alike",
    ]


def test_the_output_in_a_sandbox_is_the_newest_part_of_the_clients_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "run" / "clients" / "a" / "output.log"
    file.parent.mkdir(parents=True)
    lines = "\n".join(f"line {number}" for number in range(12))
    file.write_text(
        "--- session s1, round 1, train, 2026-01-01 10:00:00 UTC ---\nold\n"
        f"--- session s1, round 2, train, 2026-01-01 10:00:01 UTC ---\n{lines}\n"
    )
    hung = _event("update.absent", "a", reason="no answer in 6 s; it was in trainer.py:18 in train")
    assert _shown(hung, folder=tmp_path / "run") == [
        "a: absent: no answer in 6 s; it was in trainer.py:18 in train",
        "  last lines of its output, all of which is in run/clients/a/output.log:",
        *(f"    line {number}" for number in range(2, 12)),
    ]
    assert last_part(tmp_path / "nothing") == []


def test_of_a_crash_in_c_code_the_trainers_own_calls_are_shown_and_not_those_of_all_threads(tmp_path: Path) -> None:
    file = tmp_path / "run" / "clients" / "a" / "output.log"
    file.parent.mkdir(parents=True)
    file.write_text(
        "epoch 1\nFatal Python error: Segmentation fault\n\nThread 0x1 (most recent call first):\n" + "x\n" * 20
    )
    trace = 'Traceback (most recent call last):\n  File "trainer.py", line 9, in train\nFatal Python error: Aborted\n'
    crashed = _failed("a", "was killed by SIGSEGV", trace + "--- last lines of output ---\nepoch 1\n")
    shown = _shown(crashed, folder=tmp_path / "run")
    assert shown[-3].endswith("Fatal Python error: Aborted") and shown[-1] == "    epoch 1", shown


def test_of_output_in_two_files_both_are_named_and_none_is_said_to_hold_all(tmp_path: Path) -> None:
    file = tmp_path / "run" / "clients" / "a" / "output.log"
    file.parent.mkdir(parents=True)
    older = file.with_name("output.log.1")
    older.write_text("--- session s1, round 1, train, 2026-01-01 10:00:00 UTC ---\nepoch 1\n")
    (heading, line) = _shown(_failed("a", "exit code 1", "--- last lines of output ---\n"), folder=tmp_path / "run")[
        -2:
    ]
    assert heading.startswith("  last lines of its output, the newest of which is in ") and line == "    epoch 1"
    assert heading.endswith("clients/a/output.log.1:")  # nothing was printed since
    file.write_text("--- session s1, round 1, train, 2026-01-01 10:00:00 UTC ---\nepoch 2\n")
    (heading, line) = _shown(_failed("a", "exit code 1", "--- last lines of output ---\n"), folder=tmp_path / "run")[
        -2:
    ]
    assert heading.startswith("  last lines of its output, the newest of which is in ") and line == "    epoch 2"
    assert heading.endswith("clients/a/output.log (older: output.log.1):")


def test_a_validation_that_fails_is_shown_once_with_its_client_and_traceback() -> None:
    reason = "validate raised ZeroDivisionError: division by zero"
    failing = [
        _event(
            "model.validated", name, 0, scope="test", metrics={}, weight=None, reason=reason, traceback="Traceback\n"
        )
        for name in ("evaluator", "a")
    ]
    noted = _event("update.accepted", "a", notes=[reason])
    assert _shown(*failing, noted) == [f"evaluator: {reason}", "  Traceback"]


def test_a_validation_that_fails_as_an_update_did_is_not_shown_again() -> None:
    reason = "trainer.py: FileNotFoundError: /data/c"
    validated = _event(
        "model.validated", "c", 3, scope="client", metrics={}, weight=None, reason=reason, traceback="Traceback\n"
    )
    shown = _shown(_failed("c", reason, "Traceback\n"), validated, _event("session.finished"))
    assert shown == [f"c: failed: {reason}", "  Traceback"]


def test_validations_that_fail_alike_are_counted() -> None:
    failing = [
        _event(
            "model.validated", name, 0, scope="client", metrics={}, weight=None, reason=REASON, traceback="Traceback\n"
        )
        for name in ("a", "b", "c")
    ]
    committed = _event("round.committed", seconds=1.0, counts={"accepted": 3}, model="m")
    assert _shown(*failing, committed) == [
        f"a: {REASON}",
        "  Traceback",
        "2 more validations failed alike",
        "round 1 of 2: 3 of 3 accepted, 1.0 s",
    ]


def test_a_validation_that_hangs_is_shown_with_its_client_its_place_and_the_remedy() -> None:
    reason = (
        "no answer in 30 s; it was in trainer.py:22 in validate; if trainers are only slow, raise `validation_timeout`"
    )
    absent = [_event("validation.absent", client, model="m", reason=reason) for client in ("b", "a")]
    assert _shown(*absent, _event("session.finished", reason="")) == [
        f"b: absent: {reason}",
        "1 more client was absent alike",
    ]


def test_control_characters_of_a_client_do_not_reach_the_terminal() -> None:
    shown = _shown(_failed("a", traceback="Trace\x1b[2Jback\n"))
    assert shown[1] == "  Trace\\u001b[2Jback"


def test_the_live_table_has_the_failure_above_it() -> None:
    stream = StringIO()
    view = LiveView(SessionProgress(1), Console(file=stream, width=100))
    with view:
        for event in (_failed("a"), _failed("b"), _event("round.retried", reason=RETRIED, attempt=1)):
            view.event(event)
    text = stream.getvalue()
    assert text.count(REASON) == 1 and "KeyError: 'epochs'" in text and "1 more client failed alike" in text
