"""Verbs of a site on its clients' own models: list, delete, and what `model get --client` does."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fedmq_cli.output import AsJson, local_time, print_columns, print_json, print_next, say
from fedmq_cli.scratch import beside

personal = typer.Typer(
    no_args_is_help=True, help="List or delete local tensors and task.state that this site's clients keep."
)
MOST_OF_NAMES = 15
"""Characters of a column of names. With 15, a row of a client whose name has 20 characters fits in 100."""
StateDir = Annotated[
    Path | None,
    typer.Option(
        help="State folder of this site's clients, or of a sandbox; default: FEDN_STATE_DIR, else .fedmq.",
        show_default=False,
    ),
]


def place_of(state_dir: Path | None) -> Path:
    """Returns the state folder that is meant."""
    from fedmq.process.settings import AllianceSettings

    return state_dir or AllianceSettings.load().state_dir


@personal.command(name="list")
def list_kept(
    client: Annotated[str | None, typer.Option(help="Only this client's.", show_default=False)] = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """List what the clients keep, newest first. Nothing of it has left this site. `--json` has all names in full."""
    from fedmq_client.personal.site import client_in, clients_in

    folder = place_of(state_dir)
    clients = clients_in(folder).values() if client is None else [client_in(folder, client)]
    states = [state for each in clients for state in each.states()]
    rows: list[dict[str, Any]] = [
        {"client": state.client.name, **state.kept.model_dump(), "model": state.model, "open": state.is_open}
        for state in states
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["saved"] = local_time(row["saved_at"])[: len("2026-01-31 12:00")]
        row["package"] = row["package"][:8]
        row["local"], row["state"] = _first_of(list(row["local"])), _first_of(list(row["state"]))
    columns = {name: name for name in ("client", "session", "round", "local", "state", "package", "saved")}
    print_columns(rows, columns, f"no client in {folder} keeps anything")
    if rows:
        print_next(f"fedmq model get --client {rows[0]['client']}{_option(state_dir)}")


@personal.command()
def delete(
    client: Annotated[str, typer.Option(help="The client's name.", show_default=False)],
    session: Annotated[str | None, typer.Option(help="Only this session's; default: all.", show_default=False)] = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete what a client keeps. A session that goes on afterwards begins anew at this client."""
    from fedmq_client.personal.site import client_in

    deleted, in_use = client_in(place_of(state_dir), client).delete(session)
    if as_json:
        print_json({"client": client, "deleted": deleted, "in_use": in_use})
    else:
        say(f"deleted: {', '.join(deleted) or 'nothing'}")
        for name in in_use:
            say(f"session {name} is under way, and uses it: stop the client first")
    if in_use:
        raise typer.Exit(1)


def export(
    client: str,
    session: str | None,
    state_dir: Path | None,
    write: Callable[[Path, Any, Any], None],
    place: Callable[[str], Path],
    state_file: Path | None,
    as_json: bool,
) -> None:
    """Writes a client's whole model, and `task.state` to `state_file`, both with mode 600.

    `place` returns the model's file by the name of the model. `write` writes weights and metadata to a path.
    """
    from fedmq.errors import ConfigError
    from fedmq.model_files import formats
    from fedmq_client.personal.site import client_in, state_of

    found = state_of(client_in(place_of(state_dir), client), session)
    kept = found.kept
    if state_file is not None:
        if not kept.state:
            raise ConfigError(f"client {client} keeps no task.state of session {kept.session}: leave --state out")
        form = "npz" if state_file.suffix == ".npz" else "safetensors"
        _privately(state_file, lambda scratch: formats.write(found.own()[1], scratch, form))
    weights, meta = found.read()
    path = place(f"{client}-{kept.session}")
    _privately(path, lambda scratch: write(scratch, weights, meta))
    if as_json:
        whole = {**kept.model_dump(), "client": client, "model": found.model, "path": str(path)}
        print_json({**whole, "state_path": None if state_file is None else str(state_file)})
        return
    own = f"local tensors {', '.join(kept.local)}" if kept.local else "no local tensors"
    say(f"model of client {client}: {own} after round {kept.round} of session {kept.session}")
    say(f"  the other tensors are those of model {found.model}\n  {path}")
    if state_file is not None:
        say(f"  {state_file}: task.state, {', '.join(kept.state)}")
    print_next(f"fedmq personal list{_option(state_dir)}")


def _first_of(names: Sequence[str]) -> str:
    """Returns the first name, shortened, and the number of the others: a row has to fit in a terminal."""
    if not names:
        return ""
    others = f" +{len(names) - 1}" if len(names) > 1 else ""
    room = MOST_OF_NAMES - len(others)
    return (names[0] if len(names[0]) <= room else f"{names[0][: room - 1]}…") + others


def _option(state_dir: Path | None) -> str:
    return "" if state_dir is None else f" --state-dir {shlex.quote(str(state_dir))}"


def _privately(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file that only this user may read, whole or not at all."""
    with beside(path) as scratch:
        write(scratch)
        scratch.chmod(0o600)
        os.replace(scratch, path)
