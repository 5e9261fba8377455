"""`fedmq backup`.

A backup is a folder with the layout of a sandbox's state folder, so every verb that takes `--state-dir` reads it.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from fedmq import __version__
from fedmq.blobs.files import FileBlobs
from fedmq.errors import ConfigError, InvalidUpdate, NotFound
from fedmq.records.base import Records
from fedmq.records.sqlite import SqliteRecords
from fedmq_cli.backup.copying import Copied, copy_blobs
from fedmq_cli.backup.named_blobs import NamedBlob, NamedBlobs, documents, let_go_blobs, references
from fedmq_cli.backup.progress import BlobProgress
from fedmq_cli.backup.snapshot import copy_records
from fedmq_cli.backup.stores import BLOBS, RECORDS, Stores
from fedmq_cli.scratch import beside
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef
from fedmq_schemas.records import is_kept

ABOUT = "backup.json"
UNFINISHED = "records.unfinished.db"


def back_up(source: Stores, folder: Path, progress: BlobProgress) -> Copied:
    """Copies records and the blobs that they name into `folder`, also while sessions run. May be repeated.

    Records first, then blobs: a blob is stored before its record is written, and is never altered, so the store holds every
    blob that the copied records name. In the other order, records would name blobs that are newer than the copied blobs.
    Blobs that `folder` holds already are read and not copied again.

    The records replace those of an earlier backup once their blobs are all there. A backup that is interrupted leaves the
    earlier one as it was.

    Raises ConfigError if the folder holds anything else, or a backup of something else.
    """
    _begin(folder, source.name)
    for file in _files_of(folder / UNFINISHED):
        file.unlink(missing_ok=True)
    target, copied = FileBlobs(folder / BLOBS, fsync=True), Copied()
    with closing(SqliteRecords(folder / UNFINISHED, fsync=True)) as records, beside(folder / "blob") as scratch:

        def is_present(ref: BlobRef) -> bool:
            try:
                target.fetch(ref, scratch)
            except (NotFound, InvalidUpdate):
                return False
            return True

        copy_records(source.records, records)
        # Copied first: where retention keeps few models, a session that runs deletes these within two rounds.
        urgent = _newest_of_open_sessions(records)
        absent = copy_blobs(source.blobs, target, urgent.values(), is_present, scratch, progress, copied)
        named = NamedBlobs(records, source.blobs).found
        others = [blob for key, blob in named.items() if key not in urgent]
        absent += copy_blobs(source.blobs, target, others, is_present, scratch, progress, copied)
        _adopt_deletions(source.records, records, {blob.ref.key for blob in absent} - urgent.keys())
        let_go = let_go_blobs(records)
        copied.faults += [blob.fault("is gone") for blob in absent if blob.needed and blob.ref.key not in let_go]
    _finish(folder, source.name)
    return copied


def about(folder: Path) -> dict[str, Any] | None:
    """Returns what the backup is `of`, and the time `at` which it was completed or None. None if there is no backup."""
    try:
        found: dict[str, Any] = json.loads((folder / ABOUT).read_text())
    except FileNotFoundError:
        return None
    return found


def _begin(folder: Path, name: str) -> None:
    found = about(folder)
    if found is None:
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty, and no backup: name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        _write_about(folder, {"of": name, "at": None})
    elif found["of"] != name:
        raise ConfigError(f"{folder} holds a backup of {found['of']}, not of {name}: name another folder")


def _finish(folder: Path, name: str) -> None:
    for log in _files_of(folder / RECORDS)[1:]:  # those of the earlier records must not meet the new ones
        log.unlink(missing_ok=True)
    os.replace(folder / UNFINISHED, folder / RECORDS)
    _write_about(folder, {"of": name, "at": time.time()})


def _files_of(database: Path) -> list[Path]:
    """Returns the files in which SQLite keeps a database: itself, and its logs."""
    return [database.with_name(f"{database.name}{ending}") for ending in ("", "-wal", "-shm")]


def _write_about(folder: Path, content: dict[str, Any]) -> None:
    with beside(folder / ABOUT) as path:
        path.write_text(json.dumps({**content, "fedmq": __version__}) + "\n")
        os.replace(path, folder / ABOUT)


def _newest_of_open_sessions(records: Records) -> dict[str, NamedBlob]:
    """Returns the blobs of the last round of each open session, from which it continues."""
    found = {}
    for session, document in documents(records, tables.SESSIONS):
        if document["state"] not in tables.ENDED:
            for committed in records.find(tables.ROUNDS, {"session": session}, order="round", descending=True, limit=1):
                for ref in references([committed["model"], committed.get("base"), committed.get("optimizer")]):
                    found[ref.key] = NamedBlob(ref, f"{tables.SESSIONS} {session}", True)
    return found


def _adopt_deletions(source: Records, copy: Records, absent: set[str]) -> None:
    """Adopts the records of models whose blobs are `absent` since retention has deleted them during the backup."""
    if not absent:
        return
    states = {
        committed["model"]["key"]: committed["optimizer"]["key"]
        for _, committed in documents(copy, tables.ROUNDS)
        if committed.get("optimizer") is not None
    }
    for key, model in documents(source, tables.MODELS):
        blob = model["ref"]["key"]
        if not is_kept(model) and not absent.isdisjoint((blob, states.get(blob))) and copy.get(tables.MODELS, key):
            copy.put(tables.MODELS, key, model)
