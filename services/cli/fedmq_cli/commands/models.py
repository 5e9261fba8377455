"""Verbs on models: seed, models, model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedmq_cli.commands import personal
from fedmq_cli.commands.session import session_of
from fedmq_cli.output import (
    AsJson,
    FolderOption,
    NoFolder,
    Url,
    local_note,
    local_time,
    metrics_of,
    place_option,
    print_columns,
    print_json,
    print_next,
    say,
)
from fedmq_cli.scratch import beside

if TYPE_CHECKING:
    from fedmq_sdk import Alliance

model = typer.Typer(no_args_is_help=True, help="Download or convert a model, or verify how it was made.")
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Id of the model, or best, or last (the default).", show_default=False)
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", help="safetensors, npz, keras or torch; default: that of the ending, else safetensors."),
]
NetworkOption = Annotated[
    Path | None,
    typer.Option("--package", help="The package whose trainer has the layers, for Keras files without them."),
]
SessionOption = Annotated[str | None, typer.Option("--session", help="The session whose best or last model is meant.")]


def seed(
    file: Annotated[
        Path | None, typer.Argument(help="A model: .safetensors, .npz, .keras, .h5 or .pt.", show_default=False)
    ] = None,
    package: Annotated[
        Path | None,
        typer.Option(
            help="Without a file: let this package's trainer make it. With Keras' weights alone: it has the layers.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Its id; default: seed- and its hash.")] = None,
    random_seed: Annotated[int, typer.Option(help="Starts the trainer's random draws.")] = 0,
    role: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=ROLE", help="A tensor's role, where the file states none: position_ids=constant."),
    ] = None,
    url: Url = None,
    state_dir: NoFolder = None,
    as_json: AsJson = False,
) -> None:
    """Upload the first model of a session. The same model twice is the same seed."""
    from fedmq.errors import ConfigError
    from fedmq.model_files import formats
    from fedmq_cli.package_trial import first_model, network_of
    from fedmq_sdk import Alliance

    if file is None and package is None:
        raise ConfigError("name a model's file, or a package whose trainer makes one: `fedmq seed --package DIR`")
    if file is None:
        assert package is not None
        if role:
            raise ConfigError("--role is for a file: a package states roles in its trainer's roles() or in fedn.yaml")

        found = Alliance(url, state_dir=state_dir).upload_blob(first_model(package, random_seed), name)
    else:
        read = formats.read(file, network_of(package))
        blob = read.with_roles(dict(map(_role, role or ()))).blob()
        found = Alliance(url, state_dir=state_dir).upload_blob(blob, name)
    if as_json:
        print_json({"model": found})
        return
    say(f"seed {found}")
    print_next(f"fedmq start --seed {found} --follow", place=place_option(url, None))


def _role(text: str) -> tuple[str, str]:
    from fedmq.errors import ConfigError

    name, equals, role = text.rpartition("=")
    if not equals:
        raise ConfigError(f"--role {text}: give NAME=ROLE, such as position_ids=constant")
    return name, role


def models(
    session: Annotated[
        str | None, typer.Option(help="Only this session's; `last`: the one under way, else the newest.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    url: Url = None,
    state_dir: FolderOption = None,
    as_json: AsJson = False,
) -> None:
    """List models, newest first, with their metrics."""
    from fedmq_schemas.records import is_kept
    from fedmq_sdk import Alliance

    alliance = Alliance(url, state_dir=state_dir)
    session = None if session is None else _with_models(alliance, session)
    rows = alliance.models(session, limit)
    unused = alliance.unused_models() if session is None else []
    if as_json:
        print_json([*rows, *unused])
        return
    for row in (*rows, *unused):
        row["made"] = local_time(row["created_at"])
        row["size"] = row["ref"]["size"]
        row["bytes"] = "kept" if is_kept(row) else "let go"
    names = metrics_of(rows)[:4]
    columns = {"model": "model", "session": "session", "round": "round", **{n: n for n in names}, "made": "made"}
    if not all(map(is_kept, rows)):
        columns["bytes"] = "bytes"
    print_columns([*rows, *unused], columns, "no model yet")
    following = "fedmq model get best" if any(row["round"] for row in rows) else "fedmq start --follow"
    print_next(following, place=place_option(url, state_dir))


def _with_models(alliance: Alliance, session: str) -> str:
    """Returns the id of a session that has a record or models. Raises NotFound if it has neither.

    `fedmq forget session` deletes the record, and keeps the models.
    """
    if session != "last" and alliance.models(session, 1):
        return session
    return session_of(alliance, session).id


@model.command()
def get(
    model_id: ModelArgument = "last",
    session: SessionOption = None,
    metric: Annotated[str | None, typer.Option(help="What best means: test/accuracy.")] = None,
    mode: Annotated[str | None, typer.Option(help="max or min.")] = None,
    form: FormatOption = None,
    package: NetworkOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File, whose ending decides the format, or folder; default: this folder."),
    ] = None,
    client: Annotated[
        str | None,
        typer.Option(
            help="At this client's site: its whole model, with its own local tensors. Reads --state-dir only, by default "
            "FEDN_STATE_DIR, else .fedmq."
        ),
    ] = None,
    state_dir: FolderOption = None,
    state: Annotated[
        Path | None,
        typer.Option(help="With --client: also write its task.state here, .npz or .safetensors.", show_default=False),
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Download a model, check its hash, and write it in the form that you want."""
    from fedmq.errors import ConfigError
    from fedmq.model_files import formats
    from fedmq_cli.package_trial import network_of
    from fedmq_sdk import Alliance

    out = out or Path()
    form = formats.form_of(out, form)
    if mode not in (None, "max", "min"):
        raise ConfigError(f"--mode {mode}: max or min")
    network = network_of(package)
    if client is not None:
        if (model_id, metric, mode, url) != ("last", None, None, None):
            raise ConfigError(
                "--client goes with --session, and names no model, metric, mode or url: it reads --state-dir"
            )
        personal.export(
            client,
            session,
            state_dir,
            lambda path, weights, meta: formats.write(weights, path, form, meta=meta, network=network),
            lambda name: formats.place(out, name, form),
            state,
            as_json,
        )
        return
    if state is not None:
        raise ConfigError("--state belongs to --client NAME")
    alliance = Alliance(url, state_dir=state_dir)
    session = None if session is None else _with_models(alliance, session)
    document = alliance.model(model_id, session=session, metric=metric, mode=mode)  # type: ignore[arg-type]
    path = formats.place(out, document["model"], form)
    with beside(path) as scratch:
        written = scratch.with_name(f"model{formats.SUFFIXES[form]}")
        if form == "safetensors":
            alliance.download(document["model"], written)
        else:
            found = alliance.read(document["model"])
            formats.write(found.weights, written, form, meta=found.meta, network=network)
        os.replace(written, path)
    local = local_tensors(alliance, document)
    if as_json:
        print_json({**document, "path": str(path), **({"local_tensors": local} if local else {})})
        return
    best = document.get("best")
    what = f" ({best['metric']} {best['value']:.6g}, {best['mode']} of its session)" if best else ""
    say(f"model {document['model']}{what}\n  {path}")
    if local:
        say(f"  {local_note(local)}")
    print_next(
        f"fedmq model verify {document['model']}",
        f"fedmq start --seed {document['model']} --follow",
        place=place_option(url, state_dir),
    )


def local_tensors(alliance: Alliance, document: Mapping[str, Any]) -> list[str]:
    """Returns the patterns of the tensors that stay at the clients in the session that made a model.

    Returns none for a forgotten session: its policy is deleted.
    """
    from fedmq.errors import NotFound

    if document["base"] is None or document["session"] is None:
        return []
    try:
        policy = alliance.session(document["session"]).refresh()["policy"]
    except NotFound:
        return []
    return list(policy["tensors"]["local"])


@model.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A model in any format that `fedmq seed` reads.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File, whose ending decides the format, or folder.", show_default=False)
    ],
    form: FormatOption = None,
    package: NetworkOption = None,
    as_json: AsJson = False,
) -> None:
    """Write a model file in another format. No server is needed."""
    from fedmq.model_files import formats
    from fedmq_cli.package_trial import network_of

    form = formats.form_of(out, form)
    path = formats.place(out, file.stem, form)
    network = network_of(package)
    found = formats.read(file, network)
    formats.write(found.weights, path, form, meta=found.meta, network=network)
    if as_json:
        print_json({"path": str(path), "format": form, "tensors": len(found.weights)})
        return
    say(f"{len(found.weights)} tensors as {form}\n  {path}")


@model.command()
def verify(
    model_id: ModelArgument = "last",
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Instead: check that every blob that a record names is there, with its sha256. Reads the stores that the "
            "reducer's settings name.",
        ),
    ] = False,
    url: Url = None,
    state_dir: FolderOption = None,
    as_json: AsJson = False,
) -> None:
    """Recompute a model from its parent and its round's updates, and compare the bytes.

    Exit codes: 0 the same bytes; 1 other bytes; 3 the updates, the model or its parent are gone (retention), only hashes
    and counts were checked. With --all: 0 all is there; 1 a blob is gone or altered; 3 only updates are gone.
    """
    if everything:
        _verify_all(model_id, state_dir, url, as_json)
    from fedmq_cli.verifying import verdict_on
    from fedmq_sdk import Alliance

    verdict = verdict_on(Alliance(url, state_dir=state_dir), model_id)
    if as_json:
        print_json(verdict)
    else:
        say(f"model {verdict['model']}: {verdict['verdict']}")
        for line in verdict["checked"]:
            say(f"  {line}")
        if verdict["parent"]:
            print_next(f"fedmq model verify {verdict['parent']}", place=place_option(url, state_dir))
    raise typer.Exit({"same": 0, "different": 1, "partly": 3}[verdict["outcome"]])


def _verify_all(model_id: str, state_dir: Path | None, url: str | None, as_json: bool) -> None:
    from fedmq.errors import ConfigError
    from fedmq_cli.backup.consistency import check
    from fedmq_cli.backup.progress import BlobProgress
    from fedmq_cli.backup.report import print_consistency
    from fedmq_cli.backup.stores import opened

    if (model_id, url) != ("last", None):
        raise ConfigError(
            "--all checks every blob in the stores that the settings or --state-dir name: leave out MODEL and --url"
        )
    with opened(state_dir) as stores:
        found = check(stores.records, stores.blobs, BlobProgress())
    print_consistency(found, as_json)
    raise typer.Exit(found.exit_code)
