"""What the verbs on backups print about records and blobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer

from fedmq_cli.backup.consistency import Consistency
from fedmq_cli.backup.progress import megabytes
from fedmq_cli.output import print_columns, print_json, say

MOST_UNRECORDED = 20


def print_consistency(found: Consistency, as_json: bool) -> None:
    """Prints what the check found: the faults, then what is worth knowing."""
    if as_json:
        print_json(asdict(found))
        return
    print_faults(found.faults)
    typer.echo(
        f"{found.blobs} blobs ({megabytes(found.bytes)}) are as recorded; {len(found.faults)} are gone or altered"
    )
    if found.updates_gone:
        typer.echo(
            f"{found.updates_gone} updates and sums of rounds are deleted: their models are verified in part only"
        )
    if found.unrecorded:
        say(f"{len(found.unrecorded)} blobs without a record; a session that runs may be about to record them:")
        for key in found.unrecorded[:MOST_UNRECORDED]:
            say(f"  {key}")
        if len(found.unrecorded) > MOST_UNRECORDED:
            say(f"  and {len(found.unrecorded) - MOST_UNRECORDED} more, all in --json")


def print_faults(faults: Sequence[dict[str, Any]]) -> None:
    """Prints a row for each blob that is gone or altered; nothing if there is none."""
    if faults:
        print_columns(faults, {"record": "record", "blob": "blob", "fault": "fault"}, "")
        typer.echo()
