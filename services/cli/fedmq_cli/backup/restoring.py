"""`fedmq restore`: a backup copied into an empty alliance."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from fedmq.errors import ConfigError, NotFound
from fedmq.lease import HeldLease, LeaseWatch
from fedmq.records.base import Lease, Records
from fedmq.records.documents import LEASE_KEY, LEASE_TABLE
from fedmq_cli.backup.backing_up import about
from fedmq_cli.backup.copying import Copied, copy_blobs
from fedmq_cli.backup.named_blobs import NamedBlobs
from fedmq_cli.backup.progress import BlobProgress
from fedmq_cli.backup.snapshot import copy_table
from fedmq_cli.backup.stores import Stores
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef

RESTORES = "restores"
"""The table with the mark of a restore that has not ended."""
LEASE_SECONDS = 60.0
LOOK_AGAIN = 0.5
LATER = 1_000_000
"""Added to the epoch of the restored lease: a combiner that ran on after the backup has seen later epochs, and rejects plans
of earlier ones."""


def restore(backup: Stores, folder: Path, target: Stores, progress: BlobProgress) -> Copied:
    """Copies the backup in `folder` into `target`. May be repeated after an interruption: it continues.

    Blobs first, then records: an interrupted restore leaves no record whose blob is missing.

    Raises ConfigError if `folder` holds no complete backup, if `target` has sessions or models or other blobs of the same
    keys, and if a reducer holds its lease.
    """
    found = about(folder)
    if found is None or found["at"] is None:
        raise ConfigError(f"{folder} holds no complete backup: let `fedmq backup` end")
    mark = {"of": found["of"], "at": found["at"]}
    _check_empty(target, mark)
    holder = f"restore-{secrets.token_hex(4)}"
    target.records.release(_acquired(target, holder))

    def is_present(ref: BlobRef) -> bool:
        """Judges by the size: the check that follows the restore reads the bytes of every blob."""
        try:
            size = target.blobs.stat(ref.key).size
        except NotFound:
            return False
        if size != ref.size:
            raise ConfigError(
                f"the store of {target.name} holds another {ref.key}: restore into buckets of their own, see "
                "FEDN_MINIO_BUCKET_PREFIX"
            )
        return True

    named, copied = NamedBlobs(backup.records, backup.blobs).found, Copied()
    absent = copy_blobs(
        backup.blobs, target.blobs, named.values(), is_present, folder / ".no-scratch", progress, copied
    )
    copied.faults += [blob.fault("is not in the backup") for blob in absent if blob.needed]
    _check_empty(target, mark)
    _restore_records(backup.records, target, holder, mark)
    return copied


def _check_empty(target: Stores, mark: dict[str, object]) -> None:
    """Raises ConfigError unless the alliance is empty, or holds a part of the same backup."""
    if target.records.get(RESTORES, RESTORES) == mark:
        return
    for table in (tables.SESSIONS, tables.MODELS, tables.ROUNDS, RESTORES):
        count = target.records.count(table)
        if count:
            held = f"{count} {table if count > 1 else table.removesuffix('s')}"
            raise ConfigError(
                f"{target.name} is not empty: it has {held}. Restore into a new database: set ALLIANCE_UID to a "
                "name of its own, or delete the old database"
            )


def _acquired(target: Stores, holder: str) -> Lease:
    """Returns the lease: while the records are written, no reducer decides.

    Waits until the lease of a process that was killed has lapsed. A process that renews it meanwhile is alive.
    """
    watch = LeaseWatch()
    found = first = target.records.acquire(holder, LEASE_SECONDS)
    while isinstance(found, HeldLease):
        if found != first:
            raise ConfigError(f"a reducer of {target.name} is running: stop all its reducers, and restore again")
        watch.note(found, time.monotonic())
        time.sleep(LOOK_AGAIN)
        found = target.records.acquire(holder, LEASE_SECONDS, watch.lapsed(time.monotonic()))
    return found


def _restore_records(source: Records, target: Stores, holder: str, mark: dict[str, object]) -> None:
    records = target.records
    lease = _acquired(target, holder)
    try:
        records.put(RESTORES, RESTORES, mark, lease.epoch)
        for table in tables.TABLES:
            copy_table(source, records, table, fence=lease.epoch)
            if not records.renew(lease, LEASE_SECONDS):
                raise ConfigError(f"a reducer of {target.name} was started meanwhile: stop it, and restore again")
        kept = source.get(LEASE_TABLE, LEASE_KEY) or {"epoch": 0}
        epoch = max(lease.epoch, kept["epoch"] + LATER)
        records.put(LEASE_TABLE, LEASE_KEY, {"holder": holder, "epoch": epoch, "expires": 0.0}, lease.epoch)
        lease = Lease(holder, epoch)
        records.delete(RESTORES, {})
    finally:
        records.release(lease)
