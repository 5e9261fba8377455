"""Verbs on sessions: start, stop, status, sessions."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedmq.visible import visible
from fedmq_cli.commands.session import session_at, under_way
from fedmq_cli.interruption import saying
from fedmq_cli.left import beginning, is_left, resuming, say_if_failed, say_if_left
from fedmq_cli.output import (
    AsJson,
    FolderOption,
    NoFolder,
    Url,
    duration,
    local_time,
    place_option,
    print_columns,
    print_json,
    print_next,
    say,
)
from fedmq_cli.session_tables.stalls import say_stalls

if TYPE_CHECKING:
    from fedmq_sdk import Alliance
    from fedmq_sdk.tables import Table

_ENDS = {"finished": "has finished", "failed": "has failed", "stopped": "was stopped"}
STATUS_SECONDS = 8.0
"""Seconds that `fedmq status` waits for an answer."""


def start(
    file: Annotated[
        Path | None, typer.Argument(help="A session file (TOML); `fedmq session template` writes one.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of the policy: train.epochs=2.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Number of rounds; each makes one model.")] = None,
    seed: Annotated[str | None, typer.Option(help="Id of the model to start from. Default: the newest model.")] = None,
    session_id: Annotated[
        str | None, typer.Option("--id", help="Id of the session; the same id sent twice starts one session.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show the session's progress until it ends.")] = False,
    url: Url = None,
    state_dir: NoFolder = None,
    as_json: AsJson = False,
) -> None:
    """Start a session. Exit code 1 if it is followed and fails or is stopped."""
    from fedmq.errors import ConfigError
    from fedmq.policies import checked_policy, from_toml, with_settings
    from fedmq_sdk import Alliance

    values: dict[str, Any] = {}
    if file is not None:
        if not file.is_file():
            raise ConfigError(f"there is no file {file}: `fedmq session template > {file}` writes one")
        try:
            values = from_toml(file.read_text(encoding="utf-8"))
        except (ConfigError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: {error}: `fedmq session template` shows how one looks") from error
    values |= {name: value for name, value in {"rounds": rounds, "seed": seed}.items() if value is not None}
    values = with_settings(values, settings or ())
    checked_policy(values)
    started = Alliance(url, state_dir=state_dir).start(values, id=session_id)
    if follow:
        _follow(started, as_json, place_option(url, None))
        return
    if as_json:
        print_json({"session": started.id})
        return
    say(f"session {started.id} is started")
    print_next(f"fedmq events {started.id} --follow", f"fedmq session show {started.id}", place=place_option(url, None))


def _follow(started: Any, as_json: bool, place: str) -> None:
    from fedmq.records.without_metrics import not_accepted_lines, without_metrics_lines

    with saying(f"\nsession {started.id} continues; to end it: fedmq stop {started.id}{place}"):
        from fedmq_cli.views import watch

        if not as_json:
            say(f"session {started.id} is started")
        document = watch(started, sys.stderr if as_json else sys.stdout)
    if as_json:
        print_json(document)
    if document["state"] != "finished":
        say(f"fedmq: session {started.id} {document['state']}: {visible(document['reason'])}", err=True)
        say_stalls(started.refresh(), err=True)
        raise typer.Exit(1)
    if not as_json:
        say(f"\nfinal model {document['model']}")
        lines = [*not_accepted_lines(started.not_accepted()), *without_metrics_lines(started.without_metrics())]
        for line in lines:
            say(f"  {visible(line)}")
        print_next(f"fedmq model get {document['model']}", f"fedmq session show {started.id}", place=place)


def stop(
    session_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[SESSION]",
            help="Id of the session, or `last`: the one under way, else the newest. Default: the one under way; "
            "a queued one has to be named.",
            show_default=False,
        ),
    ] = None,
    after_round: Annotated[bool, typer.Option("--after-round", help="Let the open round end first.")] = False,
    url: Url = None,
    state_dir: NoFolder = None,
    as_json: AsJson = False,
) -> None:
    """Stop a session now, or after the round that is open."""
    from fedmq_schemas.records import ENDED

    # Of a folder nothing can be stopped, which is the answer for any of its sessions.
    found = session_at(url, session_id or (_running(url) if state_dir is None else "last"), state_dir)
    state = found.stop(after_round=after_round)
    if as_json:
        print_json({"session": found.id, "state": state})
        return
    when = "after its open round" if after_round else "now"
    say(f"session {found.id} {f'had ended already: {state}' if state in ENDED else f'ends {when}'}")
    print_next(f"fedmq session show {found.id}", place=place_option(url, state_dir))


def is_terminal() -> bool:
    """Returns whether somebody can answer a question."""
    return sys.stdin.isatty()


def _running(url: str | None) -> str:
    """Returns the id of the session that runs; of several, the one that the user chooses.

    Raises NotFound if none runs, and Refused if there are several and no terminal to ask at.
    """
    from fedmq.errors import NotFound, Refused
    from fedmq_sdk import Alliance

    alliance = Alliance(url)
    running = under_way(alliance)
    if len(running) == 1:
        return running[0]
    if running and is_terminal():
        return str(typer.prompt(f"these run: {', '.join(running)}. Which one is to stop"))
    if running:
        raise Refused(f"these run: {', '.join(running)}: name one, as in `fedmq stop {running[-1]}`")
    queued = [each["session"] for each in alliance.sessions("queued")]
    if queued:
        raise NotFound(
            f"no session runs, and queued are {', '.join(queued)}: name one, as in `fedmq stop {queued[-1]}`"
        )
    raise NotFound("no session runs: `fedmq sessions` lists those that have ended")


def status(url: Url = None, state_dir: FolderOption = None, as_json: AsJson = False) -> None:
    """Show combiners and clients that are present, and sessions that run or wait."""
    from fedmq_sdk import Alliance

    # A fault is the answer, so it is not waited for.
    alliance = Alliance(url, state_dir=state_dir, timeout=STATUS_SECONDS, patience=0.0)
    health, clients, combiners, sessions = _overview(alliance)
    open_sessions = [each for each in sessions if each["ended_at"] is None]
    present = {"clients": _present(clients), "combiners": _present(combiners)}
    if as_json:
        print_json({**health, **present, "open_sessions": open_sessions})
        return
    say(
        f"alliance {health['alliance']} at {alliance.url}: {present['clients']} of {len(clients)} clients, "
        f"{present['combiners']} of {len(combiners)} combiners"
    )
    stalls = health.get("stalls", ())
    if any(stall.get("store") == "broker" for stall in stalls):
        say("who is present is not known: no message arrives while the broker stalls")
    for stall in stalls:
        say(f"{visible(stall['process'])} waits: {visible(stall['text'])}")
    has_left = say_if_left(state_dir)
    for each in reversed(open_sessions):
        own = _without_stalls(each["waiting"], stalls)
        waiting = f", {visible(own)}" if own else ""
        done = f"{each['rounds_committed']} of {each['policy']['rounds']} rounds"
        say(f"session {each['session']}: {each['state']}{waiting}, {done}")
    if open_sessions:
        name = open_sessions[-1]["session"]
        watched = "fedmq events --follow" if stalls else f"fedmq events {name} --follow"  # a stall is of no session
        following = resuming(state_dir, name) if has_left else watched
        print_next(following, place=place_option(url, state_dir))
    else:
        _print_closed(sessions, url, state_dir)


def _without_stalls(waiting: str, stalls: Sequence[Mapping[str, Any]]) -> str:
    """Returns what a session itself waits for: without the stalls at the end, which have lines of their own."""
    for text in reversed(dict.fromkeys(f"{stall['process']}: {stall['text']}" for stall in stalls)):
        waiting = waiting.removesuffix(text).removesuffix("; ")
    return waiting


def _print_closed(sessions: Sequence[Mapping[str, Any]], url: str | None, state_dir: Path | None) -> None:
    """Prints how the newest session has ended, as no session is open, and what follows."""
    place = place_option(url, state_dir)
    if not sessions:
        say("no session has begun")
        begin = beginning(state_dir) if state_dir is not None and is_left(state_dir) else ""
        print_next("fedmq start --follow", begin or "fedmq sessions", place=place)
        return
    newest = sessions[0]
    reason = f": {visible(newest['reason'])}" if newest["reason"] else ""
    say(f"no session is open; the newest one, {newest['session']}, {_ENDS[newest['state']]}{reason}")
    say_if_failed(state_dir, newest)
    following = [f"fedmq session show {newest['session']}"]
    following += [f"fedmq clients --why {newest['session']}"] if newest["state"] == "failed" else []
    print_next("fedmq start --follow", *following, place=place)


def _overview(alliance: Alliance) -> tuple[dict[str, Any], Table, Table, Table]:
    """Returns health, clients, combiners and sessions.

    Reads again if no answer arrives in time: a store that has just begun to hang is known by then, and is named.
    """
    from fedmq.errors import Transient

    def read() -> tuple[dict[str, Any], Table, Table, Table]:
        return alliance.health(), alliance.clients(), alliance.combiners(), alliance.sessions()

    try:
        return read()
    except Transient:
        return read()


def _present(rows: list[dict[str, Any]]) -> int:
    return sum(row["state"] == "present" for row in rows)


def sessions(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    url: Url = None,
    state_dir: FolderOption = None,
    as_json: AsJson = False,
) -> None:
    """List sessions, newest first."""
    from fedmq.records.durations import began_at, seconds_queued, seconds_run
    from fedmq_sdk import Alliance

    rows = Alliance(url, state_dir=state_dir).sessions(limit=limit)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["done"] = f"{row['rounds_committed']}/{row['policy']['rounds']}"
        row["began"] = "" if row["state"] == "queued" else local_time(began_at(row))
        row["queued"], row["took"] = (
            "" if seconds is None else duration(seconds) for seconds in (seconds_queued(row), seconds_run(row))
        )
        row["note"] = row["reason"] or row["waiting"]
    columns = {
        "session": "session",
        "name": "name",
        "state": "state",
        "done": "rounds",
        "began": "began",
        "took": "took",
        "model": "model",
        "queued": "queued",
        "note": "note",
    }
    print_columns(rows, columns, "no session yet")
    if any(row["ended_at"] is None for row in rows):
        say_if_left(state_dir)
    following = f"fedmq session show {rows[0]['session']}" if rows else "fedmq start --follow"
    print_next(following, place=place_option(url, state_dir))
