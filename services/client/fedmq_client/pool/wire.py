"""What crosses the pipes between a pool and its workers: msgpack maps, one after the other.

Parent to worker: `{"client": [number, client, package]}`, `{"blob": [part, bytes]}`, `{"job": fields}`,
`{"cancel": job id}`, `{"take_back": job id}`. Worker to parent: `{"ready": true}`, and of the job with the id in `job`:
`{"validated": …}`, `{"progress": [fraction, metrics]}`, `{"result": …, "took": seconds}`. Weights go by path; bytes are
for models small enough to be in memory anyway.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgpack

from fedmq_client.job.job import Blob, Job, Result, Validated
from fedmq_client.trainer import Client

PoolMessage = dict[str, Any]

PIPE_BYTES = 1 << 20
_PATH = 1
_F_SETPIPE_SZ = 1031
_PARTS = ("model", "base")
_JOB_FIELDS = tuple(field.name for field in fields(Job) if field.name not in ("client", "package", "timeout", *_PARTS))
_job_values = attrgetter(*_JOB_FIELDS)


def widen(pipe: int) -> None:
    """Let as much wait in the pipe as one read takes, where the system lets it."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, _F_SETPIPE_SZ, PIPE_BYTES)


def encoded(message: Mapping[str, Any]) -> bytes:
    """One message as it is sent."""
    data: bytes = msgpack.packb(message, default=_plain, unicode_errors="replace")
    return data


def send(pipe: int, data: bytes) -> None:
    """Write it all. Raises OSError if the other side is gone."""
    left = memoryview(data)
    while left:
        left = left[os.write(pipe, left) :]


def receive(pipe: int) -> Iterator[list[PoolMessage]]:
    """Messages as they come, all that have come at once in a list; ends when the other side is gone."""
    unpacker = msgpack.Unpacker(ext_hook=_extension, strict_map_key=False, max_buffer_size=0)
    while data := os.read(pipe, PIPE_BYTES):
        unpacker.feed(data)
        messages = list(unpacker)
        if messages:
            yield messages


class JobWriter:
    """Jobs for one worker. What it has got already, a client or a model in memory, is not sent again."""

    def __init__(self) -> None:
        self._clients: dict[tuple[Path, str], tuple[int, Client]] = {}
        self._blobs: dict[str, bytes] = {}

    def is_light(self, job: Job) -> bool:
        """Whether the worker has the job's models, or reads them from files."""
        return self._has("model", job.model) and self._has("base", job.base)

    def encoded(self, job: Job, timeout: float) -> bytes:
        """The job, with `timeout` seconds left, and before it what the worker lacks."""
        parts = []
        number, client = self._clients.get((job.package, job.client.name), (len(self._clients), None))
        if client is not job.client:
            self._clients[job.package, job.client.name] = number, job.client
            parts.append(encoded({"client": [number, job.client, job.package]}))
        blobs: list[Any] = []
        for part, blob in (("model", job.model), ("base", job.base)):
            if not self._has(part, blob):
                assert isinstance(blob, bytes)
                self._blobs[part] = blob
                parts.append(encoded({"blob": [part, blob]}))
            blobs.append(True if isinstance(blob, bytes) else blob)
        parts.append(encoded({"job": [number, timeout, *blobs, *_job_values(job)]}))
        return b"".join(parts)

    def _has(self, part: str, blob: Blob | None) -> bool:
        return not isinstance(blob, bytes) or self._blobs.get(part) is blob


class JobReader:
    """The other end of a `JobWriter`."""

    def __init__(self) -> None:
        self._clients: dict[int, tuple[Client, Path]] = {}
        self._blobs: dict[str, bytes] = {}

    def read(self, message: PoolMessage) -> Job | None:
        """The message's job, if it has one."""
        if "client" in message:
            number, said, package = message["client"]
            self._clients[number] = Client(**{**said, "tasks": tuple(said["tasks"])}), package
        elif "blob" in message:
            part, blob = message["blob"]
            self._blobs[part] = blob
        elif "job" in message:
            number, timeout, *values = message["job"]
            client, package = self._clients[number]
            blobs: dict[str, Any] = {
                part: self._blobs[part] if value is True else value for part, value in zip(_PARTS, values, strict=False)
            }
            rest = dict(zip(_JOB_FIELDS, values[len(_PARTS) :], strict=True))
            return Job(client=client, package=package, timeout=timeout, **blobs, **rest)
        return None


def result(message: PoolMessage) -> Result:
    """The result of a received `result` message."""
    return Result(**message)


def validated(message: PoolMessage) -> Validated:
    """The validation of a received `validated` message."""
    return Validated(**message)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return msgpack.ExtType(_PATH, str(value).encode())
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (Client, Result, Validated)):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    raise TypeError(f"a {type(value).__name__} can't be sent to a worker")


def _extension(code: int, data: bytes) -> Any:
    return Path(data.decode()) if code == _PATH else msgpack.ExtType(code, data)
