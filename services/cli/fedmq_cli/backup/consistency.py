"""`fedmq model verify --all`: whether records and blobs agree."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmq.blobs.base import BlobInfo, Blobs
from fedmq.errors import InvalidUpdate, NotFound
from fedmq.records.base import Records
from fedmq_cli.backup.named_blobs import NamedBlob, NamedBlobs, let_go_blobs
from fedmq_cli.backup.progress import BlobProgress
from fedmq_cli.scratch import beside
from fedmq_schemas import keys
from fedmq_schemas import records as tables


@dataclass(slots=True)
class Consistency:
    """What the check found.

    Attributes:
        blobs: Number of blobs that are as their records say.
        bytes: Their size together.
        faults: Blobs that are gone or altered: the `record`, the `blob` that it names, and the `fault`.
        updates_gone: Number of absent blobs that only their own round needed, such as clients' updates.
        kept_updates_gone: Number of those among them whose session keeps every update.
        unrecorded: Keys of blobs that no record names, except what rounds of recorded sessions leave behind.
    """

    blobs: int = 0
    bytes: int = 0
    faults: list[dict[str, str]] = field(default_factory=list)
    updates_gone: int = 0
    kept_updates_gone: int = 0
    unrecorded: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if all is well, 1 if there are faults, 3 if updates are gone that a session keeps."""
        return 1 if self.faults else 3 if self.kept_updates_gone else 0


def check(records: Records, blobs: Blobs, progress: BlobProgress) -> Consistency:
    """Reads every blob that a record names, and compares its size and SHA-256. Lists blobs that no record names.

    Safe while sessions run. A blob is stored before its record is written, so one that is being recorded may be listed as
    unrecorded.
    """
    # Listed before the records are read: the record of most blobs that are stored meanwhile is then found.
    stored = list(blobs.list(""))
    named = NamedBlobs(records, blobs).found
    result = Consistency(unrecorded=_unrecorded(stored, named, records))
    absent: list[NamedBlob] = []
    with beside(Path(tempfile.gettempdir(), "fedmq-blob")) as scratch:
        for blob in progress.through(named.values(), "checked"):
            try:
                blobs.fetch(blob.ref, scratch)
            except NotFound:
                absent.append(blob)
            except InvalidUpdate as error:
                result.faults.append(blob.fault(error.reason))
            else:
                result.blobs += 1
                result.bytes += blob.ref.size
    _judge_absent(absent, records, result)
    result.faults.sort(key=lambda fault: fault["blob"])
    return result


def _judge_absent(absent: list[NamedBlob], records: Records, result: Consistency) -> None:
    let_go = (
        let_go_blobs(records) if absent else set()
    )  # retention may have deleted a model since the records were read
    keeping: dict[str, bool] = {}
    for blob in absent:
        if blob.needed and blob.ref.key not in let_go:
            result.faults.append(blob.fault("is gone"))
        elif not blob.needed:
            session = blob.ref.key.split("/")[1]
            if session not in keeping:
                keeping[session] = _keeps_updates(records.get(tables.SESSIONS, session))
            result.updates_gone += 1
            result.kept_updates_gone += keeping[session]


def _keeps_updates(session: dict[str, Any] | None) -> bool:
    if session is None:
        return False  # it was forgotten, with its updates
    retention = session.get("policy", {}).get("retention", {})
    return bool(retention.get("keep_updates", "all") == "all")


def _unrecorded(stored: list[BlobInfo], named: dict[str, NamedBlob], records: Records) -> list[str]:
    """Returns the keys that no record names.

    Left out: checkpoints, lists of clients and late uploads of recorded sessions, which no record names and which retention
    deletes; models whose deletion is recorded and not carried out yet.
    """
    let_go = let_go_blobs(records)
    known: dict[str, bool] = {}
    found = []
    for key in (info.key for info in stored):
        if key in named or key in let_go:
            continue
        session = key.split("/")[1]
        if keys.expiring_round(key) is not None:
            if session not in known:
                known[session] = records.get(tables.SESSIONS, session) is not None
            if known[session]:
                continue
        found.append(key)
    return found
