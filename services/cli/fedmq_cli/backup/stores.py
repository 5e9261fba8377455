"""Opens the stores of an alliance: those of the servers' settings, or of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedmq.blobs.base import Blobs
from fedmq.blobs.files import FileBlobs
from fedmq.errors import ConfigError
from fedmq.records.base import Records
from fedmq.records.sqlite import SqliteRecords

RECORDS = "records.db"
BLOBS = "blobs"


@dataclass(frozen=True, slots=True)
class Stores:
    """Records, blobs, and the `name` of what they belong to: an alliance, or a folder."""

    records: Records
    blobs: Blobs
    name: str


@contextmanager
def opened(folder: Path | None) -> Iterator[Stores]:
    """Yields the stores of a sandbox's state folder or of a backup; with None those of the servers that settings name.

    Raises ConfigError if the folder holds no records.
    """
    if folder is not None:
        if not (folder / RECORDS).is_file():
            raise ConfigError(f"{folder} is neither a backup nor a sandbox's state folder: it has no {RECORDS}")
        with closing(SqliteRecords(folder / RECORDS)) as records:
            yield Stores(records, FileBlobs(folder / BLOBS), f"folder {folder.resolve()}")
        return
    from fedmq.process.connect import open_blobs, open_records
    from fedmq.process.settings import ReducerSettings
    from fedmq.tls import trust

    settings = ReducerSettings.load()
    trust(settings.ca_file)
    with closing(open_records(settings)) as served:
        yield Stores(served, open_blobs(settings), f"alliance {settings.alliance}")
