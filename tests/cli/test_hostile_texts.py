"""No control character of a peer reaches a terminal or a log, whatever verb or formatter shows it."""

from __future__ import annotations

import json
import logging
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fedmq.errors import NotFound
from fedmq.process.logs import JsonLine
from fedmq.visible import visible, visible_lines
from fedmq_cli.app import app
from fedmq_cli.logs import OneLine
from fedmq_cli.progress import SessionProgress
from fedmq_cli.views import LiveView, PlainView, recorded

BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
CONTROLS = "".join(map(chr, (*range(32), *range(0x7F, 0xA0)))) + "\u2028\u2029" + BIDIRECTIONAL
ANSI = "\x1b[2J\x1b]0;owned\x07\x9b31m"
HOSTILE = f"a{ANSI}{CONTROLS}[red]b[/nothing]\ud800z"


def controls_in(text: str, kept: str = "\n\t") -> list[str]:
    """Returns the characters of a text that control a terminal or the order of what it shows."""
    wrong = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return [hex(ord(each)) for each in text if each not in kept and unicodedata.category(each) in wrong]


SESSION: dict[str, Any] = {
    "stalls": [HOSTILE] * 4,
    "session": HOSTILE,
    "name": HOSTILE,
    "state": "failed",
    "policy": {"rounds": 2, "tensors": {"local": [HOSTILE]}, "train": {HOSTILE: HOSTILE}},
    "rounds_committed": 1,
    "created_at": 1.0,
    "started_at": 2.0,
    "ended_at": None,
    "model": HOSTILE,
    "reason": HOSTILE,
    "waiting": HOSTILE,
    "seed": HOSTILE,
    "random_seed": 1,
}
MODEL: dict[str, Any] = {
    "model": HOSTILE,
    "session": HOSTILE,
    "round": 1,
    "created_at": 1.0,
    "parameters": 3,
    "ref": {"size": 3},
    "kept": True,
    HOSTILE: 0.5,
    "deleted": False,
}
CLIENT: dict[str, Any] = {
    "client": HOSTILE,
    "combiner": HOSTILE,
    "tasks": [HOSTILE],
    "labels": {HOSTILE: HOSTILE},
    "ordinal": 1,
    "weight": 1,
    "last_seen": 1.0,
    "state": "present",
}
COUNTS = dict.fromkeys(("accepted", "rejected", "discarded", "abstained", "failed", "absent"), 1)


def event(name: str, **data: Any) -> dict[str, Any]:
    return {
        "id": HOSTILE,
        "name": name,
        "session": "s",
        "round": 1,
        "client": HOSTILE,
        "combiner": HOSTILE,
        "at": 1.0,
        "sender": HOSTILE,
        "cause": None,
        "data": {"reason": HOSTILE, "traceback": HOSTILE, "notes": [HOSTILE], **data},
    }


METRICS = {HOSTILE: {"mean": 0.5}}
EVENTS = [
    event("session.queued"),
    event("session.waiting"),
    event("round.planned", clients=2),
    event("client.vanished"),
    event("update.failed"),
    event("update.accepted"),
    event("model.validated", scope="test", metrics={HOSTILE: 0.5}, weight=1),
    event("model.validated", scope="client", metrics={HOSTILE: 0.5, f"{HOSTILE}2": None}, weight=1),
    event("round.committed", seconds=1.0, counts=COUNTS, metrics=METRICS),
    event("session.failed"),
]


class HostileSession:
    id = HOSTILE

    def refresh(self) -> dict[str, Any]:
        return SESSION

    def rounds(self) -> list[dict[str, Any]]:
        return [{"round": 1, "accepted": 1, "seconds": 1.0, "counts": COUNTS | {HOSTILE: 1}}]

    def metrics(self) -> list[dict[str, Any]]:
        return [{"round": 1, "model": HOSTILE, HOSTILE: 0.5, f"{HOSTILE} n": 1}]

    @property
    def alliance(self) -> HostileAlliance:
        return HostileAlliance()

    def without_metrics(self) -> dict[str, Any]:
        row = {"reason": HOSTILE, "place": HOSTILE, "count": 1, "clients": [HOSTILE], "round": 1}
        return {"asked": 1, "reasons": [row]}

    def not_accepted(self) -> dict[str, Any]:
        row = {"reason": HOSTILE, "place": HOSTILE, "count": 1, "clients": [HOSTILE], "round": 1, "first_round": 1}
        return {"asked": 1, "reasons": [row | {"outcome": "failed"}]}

    def why(self) -> list[dict[str, Any]]:
        return [{"client": HOSTILE, "drawn": True, "why": HOSTILE}]

    def follow(self) -> Iterator[dict[str, Any]]:
        return iter(EVENTS)

    def stop(self, **_: Any) -> str:
        return "running"


class HostileAlliance:
    url = HOSTILE

    def __init__(self, url: str | None = None, **_: Any) -> None:
        if url is not None:
            raise NotFound(HOSTILE)

    def session(self, _: str) -> HostileSession:
        return HostileSession()

    def start(self, *_: Any, **__: Any) -> HostileSession:
        return HostileSession()

    def sessions(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        return [dict(SESSION)]

    def models(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        return [dict(MODEL)]

    def model(self, _: str) -> dict[str, Any]:
        return dict(MODEL)

    def unused_models(self) -> list[dict[str, Any]]:
        return [dict(MODEL)]

    def clients(self) -> list[dict[str, Any]]:
        return [dict(CLIENT)]

    def combiners(self) -> list[dict[str, Any]]:
        return [dict(CLIENT)]

    def health(self) -> dict[str, Any]:
        return {"alliance": HOSTILE, "status": "ok", "stalls": [{"process": HOSTILE, "text": HOSTILE}]}

    def events(self, *_: Any, **__: Any) -> Iterable[dict[str, Any]]:
        return [dict(each) for each in EVENTS]


VERBS = [
    "status",
    "sessions",
    "session show s",
    "session compare s t",
    "clients",
    "clients --why s",
    "events",
    "events s",
    "events s --follow",
    "events --follow",
    "start --follow",
    "start",
    "stop s",
    "models",
    "status --url http://other",
]


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_prints_a_control_character_of_a_peer(
    verb: str, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmq_sdk.Alliance", HostileAlliance)
    result = CliRunner().invoke(app, [*verb.split(), *(["--json"] if as_json else [])])
    assert result.exit_code in (0, 1, 2) and result.output, result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert controls_in(result.stdout) == controls_in(result.stderr) == []
    if as_json and "--follow" not in verb and not verb.startswith("events"):
        assert json.loads(result.stdout)


def test_a_json_document_keeps_its_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmq_sdk.Alliance", HostileAlliance)
    [client] = json.loads(CliRunner().invoke(app, ["clients", "--json"]).stdout)
    assert client["client"] == HOSTILE


@pytest.mark.parametrize("is_live", [True, False], ids=["live", "plain"])
def test_no_view_of_a_session_shows_a_control_character_or_obeys_markup(is_live: bool) -> None:
    stream = StringIO()
    progress = SessionProgress(2)
    view: Any = PlainView(progress, stream)
    if is_live:
        view = LiveView(progress, Console(file=stream, width=20_000, height=200))
    for row in EVENTS:
        progress.feed(recorded(row))
        view.event(recorded(row))
    if is_live:
        view._live.console.print(view._render())
    assert "[red]b[/nothing]" in stream.getvalue()
    assert controls_in(stream.getvalue()) == []


def logged(formatter: logging.Formatter) -> str:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        record = logging.getLogger(HOSTILE).makeRecord(
            HOSTILE, logging.ERROR, "file", 1, "%s", (HOSTILE,), sys.exc_info(), extra={HOSTILE: HOSTILE, "n": 1}
        )
    return formatter.format(record)


def test_a_line_of_a_text_log_holds_no_control_character() -> None:
    assert controls_in(logged(OneLine()), kept="") == []


def test_a_line_of_a_json_log_holds_no_control_character() -> None:
    line = logged(JsonLine({"role": HOSTILE, "name": "n"}))
    assert controls_in(line, kept="") == []
    assert json.loads(line)["message"] == json.loads(line)[HOSTILE] == HOSTILE


def test_a_text_on_several_lines_keeps_its_lines_and_nothing_else() -> None:
    assert visible_lines("one\n\ttwo\x1b[0m\r") == "one\n\ttwo\\u001b[0m\\r"
    assert visible("one\ntwo") == "one\\ntwo"
    assert visible("Ω é 漢 🙂") == "Ω é 漢 🙂"
