"""Blobs as files below one folder: the embedded store, for one machine.

A blob is `root/bucket/name`. It is written to `root/.partial` and renamed, so that readers in any
process see all of it or nothing. What a killed writer left there is removed when the store is
opened an hour later.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import secrets
import stat
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from urllib.parse import quote, unquote
from weakref import WeakValueDictionary

from fedmq.blobs.base import BlobInfo, BlobSource
from fedmq.blobs.keys import absent, check_key, check_sha256, check_size, is_folder
from fedmq.errors import ConfigError, FedMQError, NotFound, ProtocolError, Refused, Transient
from fedmq_schemas.keys import BUCKETS
from fedmq_schemas.messages import BlobRef

PIECE = 1 << 20
_STALE = 3600.0
_OPEN: WeakValueDictionary[str, FileBlobs] = WeakValueDictionary()
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_NO_NAME = (errno.ENOTEMPTY, errno.ENAMETOOLONG)
_READ = os.O_RDONLY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class FileBlobs:
    """The `Blobs` port on a local file system; safe across threads and processes.

    Survives death of the process at any instant; with `fsync` also death of the machine, once `put`
    has returned. `fetch` returns the blob's own file. A name can't be both a blob and a folder of
    others (`models/a` and `models/a/b`): the second put is a `ProtocolError`. Presigned URLs are
    `file://` URLs: they are good on this machine, for whoever may read the folder, and do not expire.

    Raises `ConfigError` if the folder can't be made.
    """

    def __init__(self, root: Path, fsync: bool = False) -> None:
        self._root = os.path.abspath(root)
        self._fsync = fsync
        self._partial = f"{self._root}/.partial/{secrets.token_hex(6)}"
        self._counter = itertools.count()
        try:
            for folder in (*BUCKETS, ".partial"):
                os.makedirs(f"{self._root}/{folder}", exist_ok=True)
            _remove_stale(f"{self._root}/.partial")
        except OSError as error:
            raise ConfigError(f"can't keep blobs in {self._root}: {error.strerror}") from error
        _OPEN[self._root] = self

    def put(self, key: str, source: BlobSource) -> BlobRef:
        check_key(key)
        partial = f"{self._partial}-{os.getpid()}-{next(self._counter)}"
        try:
            target = os.open(partial, _CREATE, 0o644)
            try:
                size, sha256 = _write(target, source)
                if self._fsync:
                    os.fsync(target)
            finally:
                os.close(target)
            self._rename(partial, f"{self._root}/{key}")
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            if isinstance(error, OSError):
                raise _translate(error, key) from error
            raise
        return BlobRef(key=key, size=size, sha256=sha256)

    def load(self, ref: BlobRef) -> bytes:
        with self._reading(ref.key) as (source, status):
            check_size(ref, status.st_size)
            content = _read_all(source, status.st_size)
        check_sha256(ref, hashlib.sha256(content).hexdigest())
        return content

    def get(self, key: str) -> bytes:
        with self._reading(key) as (source, status):
            return _read_all(source, status.st_size)

    def read(self, key: str, offset: int, length: int) -> bytes:
        with self._reading(key) as (source, status):
            os.lseek(source, offset, os.SEEK_SET)
            return _read_all(source, max(0, min(length, status.st_size - offset)))

    def fetch(self, ref: BlobRef, into: Path) -> Path:
        with self._reading(ref.key) as (source, status):
            check_size(ref, status.st_size)
            check_sha256(ref, _hash(source, status.st_size))
        return Path(f"{self._root}/{ref.key}")

    def stat(self, key: str) -> BlobInfo:
        with self._reading(key) as (_, status):
            return BlobInfo(key, status.st_size, status.st_mtime)

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        folder = prefix.rpartition("/")[0]
        if folder:
            if is_folder(folder):
                yield from self._walk(folder, prefix)
        else:
            for bucket in BUCKETS:
                if bucket.startswith(prefix):
                    yield from self._walk(bucket, prefix)

    def delete(self, key: str) -> None:
        check_key(key)
        try:
            os.unlink(f"{self._root}/{key}")
        except _ABSENT:
            return
        except OSError as error:
            raise _translate(error, key) from error
        self._drop_empty_folders(key)

    def presign_get(self, key: str, seconds: float) -> str:
        check_key(key)
        _OPEN[self._root] = self  # another store of the same root may have come and gone since
        return f"file://{quote(self._root)}/{quote(key)}"

    def presign_put(self, key: str, seconds: float, size: int = 0) -> str:
        return self.presign_get(key, seconds)

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[tuple[int, os.stat_result]]:
        check_key(key)
        try:
            source = os.open(f"{self._root}/{key}", _READ)
            try:
                status = os.fstat(source)
                if stat.S_ISDIR(status.st_mode):
                    raise absent(key)
                yield source, status
            finally:
                os.close(source)
        except _ABSENT:
            raise absent(key) from None
        except OSError as error:
            raise _translate(error, key) from error

    def _rename(self, partial: str, path: str) -> None:
        folder = os.path.dirname(path)
        made = False
        for _ in range(32):  # another process may drop the folder again while it is empty
            try:
                os.replace(partial, path)
                break
            except FileNotFoundError:
                with contextlib.suppress(FileNotFoundError, FileExistsError):
                    os.makedirs(folder, exist_ok=True)
                made = True
        else:
            raise Transient(f"the folder {folder} is removed again and again")
        if self._fsync:
            _sync_folder(folder)
            while made and folder != self._root:
                folder = os.path.dirname(folder)
                _sync_folder(folder)

    def _walk(self, folder: str, prefix: str) -> Iterator[BlobInfo]:
        try:
            entries = list(os.scandir(f"{self._root}/{folder}"))
        except _ABSENT:
            return
        except OSError as error:
            raise _translate(error, folder) from error
        # Keys are ordered as whole strings, where a folder's name goes on with a slash.
        named = [(e.name + "/" if e.is_dir() else e.name, e) for e in entries]
        for name, entry in sorted(named, key=lambda pair: pair[0]):
            key = f"{folder}/{name}"
            if name.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._walk(key[:-1], prefix)
            elif key.startswith(prefix) and not name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat()
                    yield BlobInfo(key, status.st_size, status.st_mtime)

    def _drop_empty_folders(self, key: str) -> None:
        folder = key.rpartition("/")[0]
        while "/" in folder:
            try:
                os.rmdir(f"{self._root}/{folder}")
            except OSError:
                return
            folder = folder.rpartition("/")[0]


def open_url(url: str, key: str) -> FileBlobs:
    """The store whose `file://` URL for `key` this is.

    Only stores that this process has opened are found, so that no message can name another place on the disk. Raises
    `Refused` for any other URL.
    """
    root = unquote(url.removeprefix("file://")).removesuffix(f"/{key}")
    store = _OPEN.get(root)
    if store is None:
        raise Refused(f"this process keeps no files where the URL of {key} leads")
    return store


def _write(target: int, source: BlobSource) -> tuple[int, str]:
    """Writes all of `source`; returns its size and sha256."""
    if isinstance(source, bytes):
        _write_all(target, memoryview(source))
        return len(source), hashlib.sha256(source).hexdigest()
    digest, size = hashlib.sha256(), 0
    buffer = bytearray(PIECE)
    with _open_source(source) as file:
        while count := file.readinto(buffer):
            piece = memoryview(buffer)[:count]
            digest.update(piece)
            _write_all(target, piece)
            size += count
    return size, digest.hexdigest()


def _open_source(path: Path) -> FileIO:
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path} to store") from None


def _write_all(target: int, content: memoryview) -> None:
    written = 0
    while written < len(content):
        written += os.write(target, content[written:])


def _read_all(source: int, size: int) -> bytes:
    content = os.read(source, size)
    if len(content) == size:
        return content
    pieces = [content]
    left = size - len(content)
    while left and (piece := os.read(source, left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _hash(source: int, size: int) -> str:
    if size <= PIECE:
        return hashlib.sha256(os.read(source, size)).hexdigest()
    with open(source, "rb", buffering=0, closefd=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: str) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # what was put has been deleted already
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_stale(folder: str) -> None:
    oldest = time.time() - _STALE
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            if entry.stat().st_mtime < oldest:
                os.unlink(entry.path)


def _translate(error: OSError, key: str) -> FedMQError:
    if isinstance(error, (*_ABSENT, FileExistsError)) or error.errno in _NO_NAME:
        return ProtocolError(f"{key} can't name a file here: {error.strerror}")
    if isinstance(error, PermissionError):
        return ConfigError(f"no permission for {error.filename or key}")
    return Transient(f"{key}: {error.strerror}")
