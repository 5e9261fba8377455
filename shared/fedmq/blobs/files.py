"""Blobs as files below one folder: the embedded store, for one machine.

A blob is the file `ROOT/BUCKET/NAME`. It is written to `ROOT/.partial` and renamed, so that readers in any process see
the whole blob or none.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from urllib.parse import quote, unquote
from weakref import WeakValueDictionary

from fedmq.blobs.base import STORE, BlobInfo, BlobSource, SignedUpload
from fedmq.blobs.checks import absent, check_key, check_sha256, check_size, is_folder, opened
from fedmq.errors import ConfigError, FedMQError, ProtocolError, Refused, Transient
from fedmq_schemas.keys import BUCKETS
from fedmq_schemas.messages import BlobRef

PIECE = 1 << 20
_STALE_SECONDS = 3600.0
_OPEN: WeakValueDictionary[str, FileBlobs] = WeakValueDictionary()
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class FileBlobs:
    """The `Blobs` port on a local file system; safe across threads and processes.

    A finished `put` survives the death of the process; with `fsync` also the death of the machine. Opening the store
    deletes unfinished files of writers that died more than an hour ago. A name can't be both a blob and a folder of blobs
    (`models/a` and `models/a/b`): the second `put` raises `ProtocolError`. Presigned URLs are `file://` URLs, which this
    process alone follows.

    With `read_only`, nothing in the folder is changed: it may be absent, and `put` and `delete` raise `Refused`.

    Raises `ConfigError` if the folder can't be made.
    """

    def __init__(self, root: Path, fsync: bool = False, *, read_only: bool = False) -> None:
        self._root = os.path.abspath(root)
        self._fsync = fsync
        self._read_only = read_only
        if read_only:
            return
        try:
            for folder in (*BUCKETS, ".partial"):
                os.makedirs(f"{self._root}/{folder}", exist_ok=True)
            _remove_stale(f"{self._root}/.partial")
        except OSError as error:
            raise ConfigError(f"can't keep blobs in {self._root}: {error.strerror}") from error
        _OPEN[self._root] = self

    def put(self, key: str, source: BlobSource) -> BlobRef:
        """Writes a file of its own and renames it."""
        self._check_may_write(key)
        partial = f"{self._root}/.partial/{secrets.token_hex(8)}"
        digest, size = hashlib.sha256(), 0
        with _translated(key):
            try:
                with opened(source) as (file, _), open(partial, "xb") as target:
                    while piece := file.read(PIECE):
                        digest.update(piece)
                        size += target.write(piece)
                    if self._fsync:
                        target.flush()
                        os.fsync(target.fileno())
                self._rename(partial, f"{self._root}/{key}")
            finally:
                with contextlib.suppress(FileNotFoundError):  # it is renamed, unless something failed
                    os.unlink(partial)
        return BlobRef(key=key, size=size, sha256=digest.hexdigest())

    def load(self, ref: BlobRef) -> bytes:
        """Reads the file and checks it."""
        with self._reading(ref.key) as (file, status):
            check_size(ref, status.st_size)
            content = file.read()
        check_sha256(ref, hashlib.sha256(content).hexdigest())
        return content

    def get(self, key: str) -> bytes:
        """Reads the file."""
        with self._reading(key) as (file, _):
            return file.read()

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Reads a part of the file."""
        with self._reading(key) as (file, _):
            file.seek(offset)
            return file.read(max(0, length))

    def fetch(self, ref: BlobRef, into: Path) -> Path:
        """Checks the blob's own file and returns its path; writes nothing to `into`."""
        with self._reading(ref.key) as (file, status):
            check_size(ref, status.st_size)
            check_sha256(ref, hashlib.file_digest(file, "sha256").hexdigest())
        return Path(f"{self._root}/{ref.key}")

    def stat(self, key: str) -> BlobInfo:
        """Returns size and time of the file."""
        with self._reading(key) as (_, status):
            return BlobInfo(key, status.st_size, status.st_mtime)

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """Lists in key order."""
        folder = prefix.rpartition("/")[0]
        if folder:
            if is_folder(folder):
                yield from self._walk(folder, prefix)
        else:
            for bucket in BUCKETS:
                if bucket.startswith(prefix):
                    yield from self._walk(bucket, prefix)

    def delete(self, key: str) -> None:
        """Deletes the file, and the folders that become empty."""
        self._check_may_write(key)
        with _translated(key):
            try:
                os.unlink(f"{self._root}/{key}")
            except _ABSENT:
                return
        folder = key.rpartition("/")[0]
        with contextlib.suppress(OSError):  # the first folder that is not empty
            while "/" in folder:
                os.rmdir(f"{self._root}/{folder}")
                folder = folder.rpartition("/")[0]

    def presign_get(self, key: str, seconds: float) -> str:
        """Returns a `file://` URL, which does not expire."""
        check_key(key)
        _OPEN[self._root] = self  # another store of the same root may have been opened and dropped since
        return f"file://{quote(self._root)}/{quote(key)}"

    def presign_put(self, key: str, seconds: float) -> str:
        """Returns a `file://` URL, which does not expire."""
        return self.presign_get(key, seconds)

    def presign_upload(self, ref: BlobRef, seconds: float) -> SignedUpload:
        """Returns a `file://` URL, which does not expire. No headers are needed."""
        return SignedUpload(self.presign_get(ref.key, seconds), {})

    def binds_uploads(self) -> bool:
        """Returns True: only this process follows its URLs, and it puts what it has hashed."""
        return True

    def _check_may_write(self, key: str) -> None:
        check_key(key)
        if self._read_only:
            raise Refused(f"blobs in {self._root} are only read here: {key} is not changed")

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[tuple[BufferedIOBase, os.stat_result]]:
        check_key(key)
        with _translated(key):
            try:
                with open(f"{self._root}/{key}", "rb") as file:
                    yield file, os.fstat(file.fileno())
            except _ABSENT:
                raise absent(key) from None

    def _rename(self, partial: str, path: str) -> None:
        folder = os.path.dirname(path)
        made = False
        for _ in range(32):  # a `delete` in another process may remove the folder again while it is empty
            try:
                os.replace(partial, path)
                break
            except FileNotFoundError:
                with contextlib.suppress(FileNotFoundError, FileExistsError):
                    os.makedirs(folder, exist_ok=True)
                made = True
        else:
            raise Transient(f"the folder {folder} is removed again and again", store=STORE)
        if self._fsync:
            _sync_folder(folder)
            while made and folder != self._root:
                folder = os.path.dirname(folder)
                _sync_folder(folder)

    def _walk(self, folder: str, prefix: str) -> Iterator[BlobInfo]:
        with _translated(folder):
            try:
                entries = list(os.scandir(f"{self._root}/{folder}"))
            except _ABSENT:
                return
        # Key order compares whole keys, in which a slash follows the name of a folder.
        named = [(entry.name + "/" if entry.is_dir() else entry.name, entry) for entry in entries]
        for name, entry in sorted(named, key=lambda pair: pair[0]):
            key = f"{folder}/{name}"
            if name.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._walk(key[:-1], prefix)
            elif key.startswith(prefix) and not name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat()
                    yield BlobInfo(key, status.st_size, status.st_mtime)


def open_url(url: str, key: str) -> FileBlobs:
    """Returns the store of this process whose `file://` URL for `key` this is.

    Raises `Refused` for any other URL, so that no message can make a client read or write other files.
    """
    root = unquote(url.removeprefix("file://")).removesuffix(f"/{key}")
    store = _OPEN.get(root)
    if store is None:
        raise Refused(f"this process keeps no files where the URL of {key} leads")
    return store


def _sync_folder(folder: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # the blob is deleted again, and its folder with it
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_stale(folder: str) -> None:
    oldest = time.time() - _STALE_SECONDS
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            if entry.stat().st_mtime < oldest:
                os.unlink(entry.path)


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _error(error, key) from error


def _error(error: OSError, key: str) -> FedMQError:
    is_no_name = isinstance(error, (*_ABSENT, FileExistsError)) or error.errno in (errno.ENOTEMPTY, errno.ENAMETOOLONG)
    if is_no_name:
        return ProtocolError(f"{key} can't name a file here: {error.strerror}")
    if isinstance(error, PermissionError):
        return ConfigError(f"no permission for {error.filename or key}")
    return Transient(f"{key}: {error.strerror}", store=STORE)
