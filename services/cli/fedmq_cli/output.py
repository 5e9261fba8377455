"""Output of verbs: aligned columns for people, JSON for programs, and the next command to type."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from fedmq.visible import visible, visible_lines

Url = Annotated[
    str | None,
    typer.Option("--url", help="The reducer's API; default: FEDN_REDUCER_HOST and _PORT, else http://localhost:8090."),
]
_FOLDER = "Read the folder of a sandbox, which runs or has ended, in place of a reducer's API."
FolderOption = Annotated[Path | None, typer.Option("--state-dir", help=_FOLDER, show_default=False)]
NoFolder = Annotated[Path | None, typer.Option("--state-dir", hidden=True, help="Is refused with what to do instead.")]
"""The option of verbs that change something: a folder is only read, and the refusal says what to do instead."""
CHANGING = ("fedmq start", "fedmq stop", "fedmq seed")
TableRow = Mapping[str, Any]
INTERRUPTED = 130
JSON_WANTED = "fedmq.json"
"""Key in the context's `meta`: whether an error is also printed as JSON."""


def _remember_json(ctx: typer.Context, wanted: bool) -> bool:
    ctx.meta[JSON_WANTED] = wanted
    return wanted


AsJson = Annotated[
    bool, typer.Option("--json", callback=_remember_json, help="Print JSON, for programs; an error as well.")
]


def say(text: str = "", *, file: TextIO | None = None, err: bool = False, nl: bool = True) -> None:
    """Prints a text to stdout, to stderr, or to `file`. Its control characters are escaped, except line feeds and tabs.

    All that a verb prints goes through here: most texts hold names, reasons and notes of other machines.
    """
    typer.echo(visible_lines(text), file=file, err=err, nl=nl)


def print_json(value: Any) -> None:
    """Prints one indented document. NaN and infinities are texts, because JSON has no such numbers."""
    say(json.dumps(_finite(value), indent=2, ensure_ascii=False))


def print_columns(rows: Sequence[TableRow], columns: Mapping[str, str], empty: str) -> None:
    """Prints rows below headings, one for each field of `columns`, or `empty`. Numbers are right-aligned."""
    if not rows:
        say(empty)
        return
    cells = [[shown(row.get(field)) for field in columns] for row in rows]
    right = [all(isinstance(row.get(field), int | float | None) for row in rows) for field in columns]
    headings = [visible(heading) for heading in columns.values()]
    widths = [max(len(line[number]) for line in (headings, *cells)) for number in range(len(headings))]
    for line in (headings, *cells):
        words = [
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(line, widths, right, strict=True)
        ]
        say("  ".join(words).rstrip())


def print_csv(rows: Sequence[TableRow]) -> None:
    """Prints rows as CSV, with a column for each field that holds a number or text in some row."""
    names = {name: None for row in rows for name, value in row.items() if isinstance(value, int | float | str | None)}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    say(text.getvalue(), nl=False)


def place_option(url: str | None, state_dir: Path | None) -> str:
    """Returns the option that leads a further command to the same place, after a space; empty for the default place."""
    for name, value in (("--state-dir", state_dir), ("--url", url)):
        if value is not None:
            return f" {name} {shlex.quote(str(value))}"
    return ""


def print_next(*commands: str, place: str = "", err: bool = False) -> None:
    """Prints the commands that a user may want to type next, each with the option `place` of `place_option`.

    Leaves out commands that change something if the place is a folder, as they would be refused.
    """
    is_folder = place.startswith(" --state-dir")
    left = [f"{each}{place}" for each in commands if not (is_folder and each.startswith(CHANGING))]
    if left:
        say(f"\nnext: {'   or: '.join(left)}", err=err)


def shown(value: Any) -> str:
    """Returns a value on one line: six significant digits, yes or no, nothing for None, lists and maps with commas."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case Mapping():
            return ",".join(f"{visible(str(name))}={shown(item)}" for name, item in value.items())
        case list() | tuple():
            return ",".join(shown(item) for item in value)
    return visible(str(value))


def part_of(n: float, of: float) -> str:
    """Returns `2 of 3` for a mean that has fewer values than it could have, else nothing."""
    return f"{n:.0f} of {of:.0f}" if n < of else ""


def named(clients: Iterable[str]) -> str:
    """Returns the first of some clients, and the number of the others: `client1 and 2 more`."""
    first, *more = list(clients)
    return f"{first} and {len(more)} more" if more else first


def short(path: str) -> str:
    """Returns the path relative to the current folder if it is below it, else unchanged."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def local_time(seconds: float | None) -> str:
    """Returns a time of the records (UTC seconds since 1970) in this machine's time zone; empty for None."""
    return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """Returns seconds as text in a suitable unit: `0.8 s`, `3 min`, `2 h`, `5 d`."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def metrics_of(rows: Iterable[TableRow]) -> list[str]:
    """Returns the names of the metrics in `rows`, accuracy and loss first: of evaluators, clients and trainings."""
    known = {"round", "model", "created_at"}
    names = {name for row in rows for name, value in row.items() if isinstance(value, float) and name not in known}
    first = ("test/accuracy", "accuracy", "training/accuracy", "test/loss", "loss", "training/loss")
    return [name for name in first if name in names] + sorted(names - set(first))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def local_note(local: Sequence[str], client: str = "NAME", more: str = "") -> str:
    """Returns what a downloaded model is not, if these tensors (patterns) stay at each client, and how a site gets it."""
    return (
        f"local tensors {', '.join(local)} are the seed's: each client holds its own; at a site: "
        f"fedmq model get --client {client}{more}"
    )
