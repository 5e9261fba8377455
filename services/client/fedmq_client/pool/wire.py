"""The messages between a pool and its workers: msgpack maps on pipes.

- Pool to worker: `{"job": fields, "number": n}`, where n counts the jobs from 1, `{"cancel": n}` and `{"locate": n}`.
- Worker to pool: `{"ready": threads}` once (see `stack_dump.threads`), then of job n, each with `"number": n`:
  `{"validated": fields}`, `{"progress": [job id, fraction, metrics, place]}`, also as the answer to `locate`, and at last
  `{"result": fields, "spoilt": what}`. `what` names, if not empty, what a trainer changed of the worker and can't be
  restored: no further job may run there.

Weights cross as paths. Bytes are for models that are small enough to be in memory anyway.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgpack

from fedmq_client.job.job import Job, Result, Validated
from fedmq_client.trainer import Client

PoolMessage = dict[str, Any]

PIPE_BYTES = 1 << 20
_PATH = 1
_F_SETPIPE_SZ = 1031
_MODELS = ("model", "base")


def widen(pipe: int) -> None:
    """Enlarges the pipe's buffer to the size of one read, where the system allows that."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, _F_SETPIPE_SZ, PIPE_BYTES)


def send(pipe: int, *messages: PoolMessage) -> None:
    """Writes the messages. Raises OSError if the other process has ended."""
    packed = [msgpack.packb(message, default=_plain, unicode_errors="replace") for message in messages]
    left = memoryview(b"".join(packed))
    while left:
        left = left[os.write(pipe, left) :]


def receive(pipe: int) -> Iterator[PoolMessage]:
    """Yields each message as it arrives. Ends when the other process has closed the pipe."""
    unpacker = msgpack.Unpacker(ext_hook=_extension, strict_map_key=False, max_buffer_size=0)
    while data := os.read(pipe, PIPE_BYTES):
        unpacker.feed(data)
        yield from unpacker


def fault(job: Job) -> str | None:
    """Returns why a job can't be sent to a worker, or None. Models always can."""
    try:
        msgpack.packb((job.config, job.update, job.client), default=_plain, unicode_errors="replace")
    except (TypeError, ValueError, OverflowError) as error:
        return f"the job can't be sent to a worker process: {error}"
    return None


class JobWriter:
    """Makes the messages of one worker's jobs. A model in memory is sent once: a round's clients share it."""

    def __init__(self) -> None:
        self._sent: dict[str, bytes] = {}

    def message(self, job: Job, number: int, timeout: float) -> PoolMessage:
        """Returns the message for `job` with `timeout` seconds left."""
        values = _fields(job) | {"timeout": timeout}
        for name in _MODELS:
            if isinstance(blob := values[name], bytes):
                if self._sent.get(name) is blob:
                    values[name] = True
                else:
                    self._sent[name] = blob
        return {"job": values, "number": number}


class JobReader:
    """Reads the messages of one `JobWriter`, in their order."""

    def __init__(self) -> None:
        self._received: dict[str, bytes] = {}

    def job(self, values: dict[str, Any]) -> Job:
        """Returns the job of a `job` message."""
        for name in _MODELS:
            if values[name] is True:
                values[name] = self._received[name]
            elif isinstance(values[name], bytes):
                self._received[name] = values[name]
        client = values["client"]
        return Job(**values | {"client": Client(**client | {"tasks": tuple(client["tasks"])})})


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return msgpack.ExtType(_PATH, str(value).encode())
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (Client, Result, Validated)):
        return _fields(value)
    if isinstance(value, int):
        raise TypeError(f"the number {value:.6g} has more than 64 bits")
    raise TypeError(f"a {type(value).__name__} has no form in msgpack")


def _extension(code: int, data: bytes) -> Any:
    return Path(data.decode()) if code == _PATH else msgpack.ExtType(code, data)
