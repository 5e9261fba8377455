"""Verbs on one session: show, compare; a template for session files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedmq.visible import visible
from fedmq_cli.left import is_left, resuming, say_if_failed, say_if_left
from fedmq_cli.open_round import print_open_round
from fedmq_cli.output import (
    AsJson,
    FolderOption,
    Url,
    local_note,
    metrics_of,
    named,
    place_option,
    print_columns,
    print_csv,
    print_json,
    print_next,
    say,
    shown,
)
from fedmq_cli.session_tables.comparison import (
    ComparedSession,
    marked_rounds,
    policy_differences,
    rounds_beside,
    standing,
    standing_lines,
)
from fedmq_cli.session_tables.means import (
    STEPS,
    accepted_of,
    asked_by_round,
    counts_of,
    marked,
    outcomes_of,
    without_mean,
)
from fedmq_cli.session_tables.stalls import say_stalls

if TYPE_CHECKING:
    from fedmq_sdk import Alliance, SessionHandle
    from fedmq_sdk.tables import Row, Table

session = typer.Typer(no_args_is_help=True, help="Show or compare sessions, or print a template for session files.")
SessionArgument = Annotated[
    str,
    typer.Argument(
        metavar="SESSION",
        help="Id of the session, or `last` (the default): the one under way, else the newest.",
        show_default=False,
    ),
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="SESSION, FOLDER or FOLDER:SESSION.", show_default=False)
]
RECORDS = "records.db"
UNDER_WAY = ("running", "waiting", "validating")
"""States of a session that has begun and has not ended."""


@dataclass(frozen=True, slots=True)
class _Run:
    """A session to compare: by which name it is shown, and the option that leads to its place."""

    name: str
    session: SessionHandle
    place: str


def session_at(url: str | None, session: str, state_dir: Path | None = None) -> SessionHandle:
    """Returns the session with this id, or for `last` the one under way, else the newest. Raises NotFound."""
    from fedmq_sdk import Alliance

    return session_of(Alliance(url, state_dir=state_dir), session)


def session_of(alliance: Alliance, session: str) -> SessionHandle:
    """Returns the session with this id, or for `last` the one under way, else the newest. Raises NotFound.

    A newer session may be queued behind the one under way. Nothing can be shown of it yet.
    """
    from fedmq.errors import NotFound

    if session == "last":
        found = under_way(alliance)[:1] or [each["session"] for each in alliance.sessions(limit=1)]
        if not found:
            is_folder = alliance.url.startswith("file:")
            raise NotFound("there is no session yet" + ("" if is_folder else ": `fedmq start` starts one"))
        session = found[0]
    return alliance.session(session)


def under_way(alliance: Alliance) -> list[str]:
    """Returns the ids of the sessions that run, wait or validate. Queued and ended ones are not among them."""
    return [str(each["session"]) for state in UNDER_WAY for each in alliance.sessions(state)]


@session.command()
def show(
    session_id: SessionArgument = "last",
    toml: Annotated[bool, typer.Option("--toml", help="Print its policy as a session file.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print its rounds and metrics as CSV.")] = False,
    url: Url = None,
    state_dir: FolderOption = None,
    as_json: AsJson = False,
) -> None:
    """Show a session: state, rounds, the metrics of its models, and who has answered in the round that is open.

    A mean of fewer values than the round has clients is marked: `12.4307 (2 of 4)`. So is the number of accepted updates,
    and each other outcome has a column. A metric for which no client returned a finite number is named below the table, and
    so is why updates were not accepted, and why validations have no metrics at all.
    """
    from fedmq.records.without_metrics import not_accepted_lines, without_metrics_lines

    found = session_at(url, session_id, state_dir)
    if toml:
        say(found.toml(), nl=False)
        return
    document, rounds, metrics = found.refresh(), found.rounds(), found.metrics()
    missing = without_mean(_newest_metrics(found, rounds), metrics)
    if as_json:
        causes = {"not_accepted": found.not_accepted(), "without_metrics": found.without_metrics()}
        print_json({**document, "rounds": rounds, "metrics": metrics, "without_mean": missing, **causes})
        return
    counts = {row["round"]: row for row in rounds}
    rows = [{**counts.get(row["round"], {}), **row} for row in metrics]
    if csv:
        print_csv(rows)
        return
    note = visible(document["reason"] or document["waiting"])
    say(f"session {found.id}: {document['state']}{': ' if note else ''}{note}")
    names = [name for name in metrics_of(metrics) if " " not in name][:6]
    asked = asked_by_round(rounds)
    for row in rows:
        row.update({name: marked(row[name], counts_of(row, name, asked)) for name in names if name in row})
        row.update({"accepted": accepted_of(row)} if "counts" in row else {})
        if row.get("resumed_after"):
            row["seconds"] = f"{shown(row['seconds'] - row['resumed_after'])}*"
    columns = ("round", "accepted", *outcomes_of(rounds), "seconds", *names, "model")
    print_columns(rows, {name: name for name in columns}, "no model yet")
    if any(row.get("resumed_after") for row in rows):
        say("* seconds since the round was resumed: without the time before that, when nothing may have run")
    for each in missing:
        who = named(each["clients"])
        say(visible(f"no mean of {each['metric']}: {each['step']} returned {each['returned']} at {who}"))
    for line in (*not_accepted_lines(found.not_accepted()), *without_metrics_lines(found.without_metrics())):
        say(visible(line))
    if is_open := document.get("open_round") or document.get("open_validation"):
        print_open_round(is_open, is_left=is_left(state_dir))
    if document["policy"]["tensors"]["local"]:
        say(local_note(document["policy"]["tensors"]["local"]))
    is_resumable = document["ended_at"] is None and say_if_left(state_dir)
    say_stalls(document)
    say_if_failed(state_dir, document)
    print_next(
        *([resuming(state_dir, found.id)] if is_resumable else ()),
        *([f"fedmq clients --why {found.id}"] if document["state"] == "failed" else ()),
        f"fedmq model get {document['model'] or 'last'}",
        f"fedmq session show {found.id} --toml",
        place=place_option(url, state_dir),
    )


@session.command()
def compare(
    one: RunArgument,
    other: RunArgument,
    url: Url = None,
    state_dir: FolderOption = None,
    as_json: AsJson = False,
) -> None:
    """Compare two sessions: what their policies differ in, and their metrics round by round.

    Each RUN is the id of a session (or `last`), or the folder of a sandbox, which stands for its `last` session.
    FOLDER:SESSION is another session of a folder. The two may be in two folders, or one in a folder and one at a reducer.
    Shows the state of each session, and whether it continues another one. Means are marked as by `fedmq session show`.
    """
    from fedmq.records.without_metrics import not_accepted_lines, without_metrics_lines

    left, right = (_run(text, url, state_dir) for text in (one, other))
    names = (one, other) if left.name == right.name else (left.name, right.name)
    sides = [_compared(run, name) for run, name in zip((left, right), names, strict=True)]
    standings = [standing(*sides), standing(*reversed(sides))]
    for each, run in zip(standings, (left, right), strict=True):
        each["not_accepted"], each["without_metrics"] = run.session.not_accepted(), run.session.without_metrics()
    differences = policy_differences(*(side.record for side in sides))
    rows = rounds_beside(*sides)
    if as_json:
        print_json({"policy": differences, "rounds": rows, "sessions": standings})
        return
    for line in standing_lines(standings):
        say(line)
    say("")
    print_columns(differences, {"key": "policy", "one": names[0], "other": names[1]}, "their policies are the same")
    say("")
    common = [f"{name} {title}" for name in sides[0].names if name in sides[1].names for title in names]
    columns = ["round", *common]
    print_columns(marked_rounds(rows, columns), {name: name for name in columns}, "they have no metric in common")
    for each in standings:
        if each["only_here"]:
            say(visible(f"not compared, as only {each['name']} has them: {', '.join(each['only_here'])}"))
    for run, name in zip((left, right), names, strict=True):
        for each in without_mean(_newest_metrics(run.session, run.session.rounds()), run.session.metrics()):
            who = named(each["clients"])
            say(visible(f"{name} has no mean of {each['metric']}: {each['step']} returned {each['returned']} at {who}"))
    for each in standings:
        for line in (*not_accepted_lines(each["not_accepted"]), *without_metrics_lines(each["without_metrics"])):
            say(visible(f"{each['name']}: {line}"))
    print_next(*(f"fedmq session show {run.session.id}{run.place}" for run in (left, right)))


@session.command()
def template() -> None:
    """Print a session file with every key, its meaning and its default."""
    from fedmq.policies import template as text

    say(text(), nl=False)


def _run(text: str, url: str | None, state_dir: Path | None) -> _Run:
    """Returns the session that RUN names. Raises ConfigError for a path that is no sandbox's folder, and NotFound."""
    from fedmq.errors import NotFound, Transient

    folder, _, session = text.rpartition(":")
    if "/" in text or Path(text, RECORDS).is_file():
        folder, session = (text, "last") if Path(text, RECORDS).is_file() or not folder else (folder, session)
    if folder:
        return _Run(Path(text).name, session_at(None, session, Path(folder)), place_option(None, Path(folder)))
    try:
        found = session_at(url, text, state_dir)
    except (NotFound, Transient) as error:
        raise type(error)(f"{text} is no folder of a sandbox, and {error.reason}") from error
    return _Run(found.id, found, place_option(url, state_dir))


def _compared(run: _Run, name: str) -> ComparedSession:
    """Reads one side of a comparison. The record of its first model may be missing."""
    from fedmq.errors import NotFound

    record = run.session.refresh()
    try:
        seed = run.session.alliance.model(record["seed"]) if record["seed"] else None
    except NotFound:
        seed = None
    return ComparedSession(name, record, run.session.rounds(), run.session.metrics(), seed)


def _newest_metrics(session: SessionHandle, rounds: Table) -> list[Row]:
    """Returns the newest events with metrics of single clients, for about two rounds."""
    most = 2 * max(asked_by_round(rounds[-1:]).values(), default=50)
    return [each for name in STEPS for each in session.alliance.events(session.id, name=name, limit=most)]
