"""Verbs on backups: backup, restore."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fedmq_cli.output import AsJson, print_json, print_next

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of the backup.", show_default=False)]


def backup(
    folder: Folder,
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Copy this sandbox's folder instead of the servers' stores.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy records and models, updates and ledgers into a folder, also while sessions run.

    Reads the stores that the reducer's settings name. The same folder again copies only what is new. Exit code 1 if a blob
    is gone or altered; all others are copied.
    """
    from fedmq_cli.backup.backing_up import back_up
    from fedmq_cli.backup.patience import patiently
    from fedmq_cli.backup.progress import BlobProgress, megabytes
    from fedmq_cli.backup.report import print_faults
    from fedmq_cli.backup.stores import opened

    with opened(state_dir) as source:
        copied = patiently(lambda: back_up(source, folder, BlobProgress()))
    if as_json:
        print_json(asdict(copied))
    else:
        print_faults(copied.faults)
        typer.echo(f"{copied.blobs} blobs copied ({megabytes(copied.bytes)}), {copied.present} were there\n  {folder}")
        print_next(f"fedmq model verify --all --state-dir {shlex.quote(str(folder))}")
    raise typer.Exit(1 if copied.faults else 0)


def restore(folder: Folder, as_json: AsJson = False) -> None:
    """Copy a backup into the empty stores that the reducer's settings name, and check every blob.

    Refuses an alliance that has sessions or models, or whose reducer runs. Exit codes: those of `fedmq model verify --all`.
    """
    from fedmq_cli.backup.consistency import check
    from fedmq_cli.backup.patience import patiently
    from fedmq_cli.backup.progress import BlobProgress, megabytes
    from fedmq_cli.backup.report import print_consistency, print_faults
    from fedmq_cli.backup.restoring import restore as copy_back
    from fedmq_cli.backup.stores import opened

    with opened(folder) as source, opened(None) as target:
        copied = patiently(lambda: copy_back(source, folder, target, BlobProgress()))
        found = patiently(lambda: check(target.records, target.blobs, BlobProgress()))
    if as_json:
        print_json({"copied": asdict(copied), "check": asdict(found)})
    else:
        print_faults(copied.faults)
        typer.echo(f"{copied.blobs} blobs copied ({megabytes(copied.bytes)}), {copied.present} were there")
        print_consistency(found, as_json)
        print_next("fedmq run reducer")
    raise typer.Exit(found.exit_code)
