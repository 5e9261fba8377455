"""Verbs on clients and events."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from fedmq.visible import visible
from fedmq_cli.commands.session import session_of
from fedmq_cli.interruption import saying
from fedmq_cli.left import is_left, resuming, say_if_left
from fedmq_cli.output import (
    AsJson,
    FolderOption,
    Url,
    duration,
    local_time,
    place_option,
    print_columns,
    print_json,
    print_next,
    say,
)

if TYPE_CHECKING:
    from fedmq_sdk import SessionHandle


class OptionalSession(TyperCommand):
    """A command whose option `--why` stands for `--why last` where no session follows."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Adds the session, and parses the words."""
        given: list[str] = []
        for word, following in zip(args, [*args, "-"][1:], strict=True):
            given += [word, "last"] if word == "--why" and following.startswith("-") else [word]
        return super().parse_args(ctx, given)


def clients(
    why: Annotated[
        str | None,
        typer.Option(
            metavar="[SESSION]",
            help="Show the part that each has in this session, or why none. Default: `last`, the one under way, else the "
            "newest.",
        ),
    ] = None,
    url: Url = None,
    state_dir: FolderOption = None,
    as_json: AsJson = False,
) -> None:
    """List clients: their tasks, their combiners, and since when each one has been present or away."""
    from fedmq_sdk import Alliance

    alliance, place = Alliance(url, state_dir=state_dir), place_option(url, state_dir)
    rows = session_of(alliance, why).why() if why is not None else alliance.clients()
    if as_json:
        print_json(rows)
        return
    if why is not None:
        print_columns(rows, {"client": "client", "drawn": "drawn", "why": "why"}, "no client has attached yet")
        print_next(f"fedmq session show {why}", place=place)
        return
    now = time.time()
    for row in rows:
        row["since"] = f"{duration(max(0.0, now - row['last_seen']))} ago"
    columns = {
        "client": "client",
        "state": "state",
        "combiner": "combiner",
        "tasks": "tasks",
        "labels": "labels",
        "ordinal": "part",
        "weight": "weight",
        "since": "since",
    }
    print_columns(rows, columns, "no client has attached yet")
    say_if_left(state_dir)
    print_next("fedmq clients --why last", "fedmq start --follow", place=place)


def events(
    session_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[SESSION]", help="Only this session's; stalls of servers belong to none.", show_default=False
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show them as they happen, until Ctrl-C.")] = False,
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="Only events of this name, or whose names begin so: message.refused, stall. May be repeated."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest, without --follow.")] = 30,
    url: Url = None,
    state_dir: FolderOption = None,
    as_json: AsJson = False,
) -> None:
    """Show events, oldest first; with --json, one line for each. With --follow SESSION, end when the session ends."""
    from fedmq_sdk import Alliance

    names = event_names(name or ())
    alliance, place = Alliance(url, state_dir=state_dir), place_option(url, state_dir)
    found = session_of(alliance, session_id) if session_id is not None else None
    is_followed = follow and state_dir is None
    has_ended = not is_followed and found is not None and found.refresh()["ended_at"] is not None
    if not follow or (not has_ended and is_left(state_dir)):
        is_whole = follow and found is not None
        recorded = alliance.events(
            found.id if found is not None else None, name=names, limit=None if is_whole else limit
        )
        _print_events(reversed(list(recorded)), as_json)
        is_over = not has_ended and say_if_left(state_dir, err=as_json)
        if not as_json:
            print_next(_after_events(found, has_ended, state_dir if is_over else None), place=place)
        return
    with saying("\nno longer followed; running sessions continue. next: fedmq status" + place):
        rows = found.follow() if found is not None else alliance.events(name=names, follow=True)
        # A session's end is an event too, so all of its events are read, and those with other names are left out here.
        _print_events((row for row in rows if names is None or row["name"] in names), as_json)
    if found is not None and not as_json:
        print_next(f"fedmq session show {found.id}", place=place)


def event_names(given: Sequence[str]) -> list[str] | None:
    """Returns all names of events that are given or begin so; None if none is given. Raises ConfigError."""
    from fedmq.errors import ConfigError
    from fedmq_schemas.records import EVENT_NAMES

    found: dict[str, None] = {}
    for text in given:
        fitting = [text] if text in EVENT_NAMES else [each for each in EVENT_NAMES if text and each.startswith(text)]
        if not fitting:
            near = get_close_matches(text, EVENT_NAMES, 3) or sorted({each.partition(".")[0] for each in EVENT_NAMES})
            raise ConfigError(f"--name {text}: no event's name begins so; near ones: {', '.join(near)}")
        found.update(dict.fromkeys(fitting))
    return list(found) or None


def _after_events(found: SessionHandle | None, has_ended: bool, left: Path | None) -> str:
    """Returns the command after recorded events. `left`: the folder if no sandbox runs there."""
    if found is None:
        return "fedmq events --follow" if left is None else "fedmq status"
    if has_ended:
        return f"fedmq session show {found.id}"
    return f"fedmq events {found.id} --follow" if left is None else resuming(left, found.id)


def _print_events(rows: Iterable[dict[str, Any]], as_json: bool) -> None:
    for row in rows:
        if as_json:
            say(json.dumps(row, ensure_ascii=False))
        else:
            say(event_line(row))
    sys.stdout.flush()


def event_line(row: dict[str, Any]) -> str:
    """Returns one event as a line: time, name, session and round, client and combiner, reason."""
    place = [row["session"], f"round {row['round']}" if row["round"] is not None else None]
    who = [row["client"], row["combiner"]]
    words = [word for word in (*place, *who) if word]
    reason = row["data"].get("reason")
    if reason:
        words.append(str(reason))
    return visible(f"{local_time(row['at'])}  {row['name']:<18} {'  '.join(words)}")
