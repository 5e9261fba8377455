"""Verbs on one session: show, compare; a template for session files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedmq.visible import visible
from fedmq_cli.left import resuming, say_if_left
from fedmq_cli.open_round import print_open_round
from fedmq_cli.output import (
    AsJson,
    FolderOption,
    Url,
    local_note,
    metrics_of,
    place_option,
    print_columns,
    print_csv,
    print_json,
    print_next,
    say,
    shown,
)

if TYPE_CHECKING:
    from fedmq_sdk import Alliance, SessionHandle

session = typer.Typer(no_args_is_help=True, help="Show or compare sessions, or print a template for session files.")
SessionArgument = Annotated[
    str,
    typer.Argument(
        metavar="SESSION", help="Id of the session, or `last` (the default) for the newest.", show_default=False
    ),
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="SESSION, FOLDER or FOLDER:SESSION.", show_default=False)
]
RECORDS = "records.db"


@dataclass(frozen=True, slots=True)
class _Run:
    """A session to compare: by which name it is shown, and the option that leads to its place."""

    name: str
    session: SessionHandle
    place: str


def session_at(url: str | None, session: str, state_dir: Path | None = None) -> SessionHandle:
    """Returns the session with this id, or for `last` the newest one. Raises NotFound."""
    from fedmq_sdk import Alliance

    return session_of(Alliance(url, state_dir=state_dir), session)


def session_of(alliance: Alliance, session: str) -> SessionHandle:
    """Returns the alliance's session with this id, or for `last` the newest one. Raises NotFound."""
    from fedmq.errors import NotFound

    if session == "last":
        newest = alliance.sessions(limit=1)
        if not newest:
            is_folder = alliance.url.startswith("file:")
            raise NotFound("there is no session yet" + ("" if is_folder else ": `fedmq start` starts one"))
        session = newest[0]["session"]
    return alliance.session(session)


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

    A mean of fewer values than the round has clients is marked: `12.4307 (2 of 4)`.
    """
    found = session_at(url, session_id, state_dir)
    if toml:
        say(found.toml(), nl=False)
        return
    document, rounds, metrics = found.refresh(), found.rounds(), found.metrics()
    if as_json:
        print_json({**document, "rounds": rounds, "metrics": metrics})
        return
    counts = {row["round"]: row for row in rounds}
    rows = [{**counts.get(row["round"], {}), **row} for row in metrics]
    if csv:
        print_csv(rows)
        return
    note = visible(document["reason"] or document["waiting"])
    say(f"session {found.id}: {document['state']}{': ' if note else ''}{note}")
    names = [name for name in metrics_of(metrics) if " " not in name][:6]
    columns = {
        "round": "round",
        "accepted": "accepted",
        "seconds": "seconds",
        **{n: n for n in names},
        "model": "model",
    }
    print_columns(_marked(rows, names), columns, "no model yet")
    if document.get("open_round"):
        print_open_round(document["open_round"])
    if document["policy"]["tensors"]["local"]:
        say(local_note(document["policy"]["tensors"]["local"]))
    is_left = document["ended_at"] is None and say_if_left(state_dir)
    print_next(
        *([resuming(state_dir, found.id)] if is_left else ()),
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

    Each RUN is the id of a session (or `last`), or the folder of a sandbox, which stands for its newest session.
    FOLDER:SESSION is another session of a folder. The two may be in two folders, or one in a folder and one at a reducer.
    """
    left, right = (_run(text, url, state_dir) for text in (one, other))
    names = (one, other) if left.name == right.name else (left.name, right.name)
    differences = _policy_differences(left.session.refresh(), right.session.refresh())
    rows = _rounds_beside(left.session.metrics(), right.session.metrics(), *names)
    if as_json:
        print_json({"policy": differences, "rounds": rows})
        return
    print_columns(differences, {"key": "policy", "one": names[0], "other": names[1]}, "their policies are the same")
    say("")
    print_columns(rows, {name: name for name in (rows[0] if rows else {})}, "they have no metric in common")
    print_next(*(f"fedmq session show {run.session.id}{run.place}" for run in (left, right)))


@session.command()
def template() -> None:
    """Print a session file with every key, its meaning and its default."""
    from fedmq.policies import template as text

    say(text(), nl=False)


def _marked(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the rows, in which a mean of fewer values than expected is a text: `12.4307 (2 of 4)`.

    Expected are those of all clients that the round asked, and for `training/…` those of all accepted updates. The clients
    of round 1 score the first model. How many evaluators there are is not known, so that `test/…` has no mark.
    """
    asked = {row["round"]: sum(row["counts"].values()) for row in rows if "counts" in row}
    marked = []
    for row in rows:
        new = dict(row)
        for name in names:
            of = row.get("accepted", 0) if name.startswith("training/") else asked.get(row["round"] or 1, 0)
            n = row.get(f"{name} n", of)
            if n < of and not name.startswith("test/"):
                new[name] = f"{shown(row[name])} ({n} of {of})"
        marked.append(new)
    return marked


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


def _policy_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a row for each dotted key whose value differs, seeds included. A missing key counts as None."""
    left, right = dict(_effective(one)), dict(_effective(other))
    keys = [*left, *(key for key in right if key not in left)]
    return [
        {"key": key, "one": left.get(key), "other": right.get(key)} for key in keys if left.get(key) != right.get(key)
    ]


def _rounds_beside(
    one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], first: str, second: str
) -> list[dict[str, Any]]:
    """Returns a row for each round, with a column for each session and each metric that both sessions have."""
    left, right = ({row["round"]: row for row in rows} for rows in (one, other))
    names = [name for name in _metrics(one) if name in _metrics(other)]
    rows = []
    for number in sorted({*left, *right}):
        row: dict[str, Any] = {"round": number}
        for name in names:
            row[f"{name} {first}"] = left.get(number, {}).get(name)
            row[f"{name} {second}"] = right.get(number, {}).get(name)
        rows.append(row)
    return rows if names else []


def _effective(session: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    used = {"seed": session["seed"], "random_seed": session["random_seed"]}
    yield from _leaves({**session["policy"], **used}, "")


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _metrics(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({name for row in rows for name in row if name not in ("round", "model") and " " not in name})
