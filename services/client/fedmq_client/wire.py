"""What crosses the pipes between a pool and its workers: msgpack maps, each after its length.

Parent to worker: `{"job": …}`, `{"cancel": job id}`. Worker to parent: `{"ready": true}`,
`{"validated": …}`, `{"progress": [fraction, metrics]}`, `{"result": …}`. Weights go by path; bytes
are for models small enough to be in memory anyway.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import msgpack

from fedmq_client.pool import Job, Result, Validated
from fedmq_client.trainer import Client

Message = dict[str, Any]

_PATH = 1
_LENGTH = 8


def send(stream: IO[bytes], message: Mapping[str, Any]) -> None:
    """Write one message and flush. Raises OSError if the other side is gone."""
    body = msgpack.packb(message, default=_plain, unicode_errors="replace")
    stream.write(len(body).to_bytes(_LENGTH, "big") + body)
    stream.flush()


def receive(stream: IO[bytes]) -> Message | None:
    """Read one message; None when the other side is gone."""
    head = stream.read(_LENGTH)
    if len(head) < _LENGTH:
        return None
    size = int.from_bytes(head, "big")
    body = stream.read(size)
    if len(body) < size:
        return None
    message: Message = msgpack.unpackb(body, ext_hook=_extension, strict_map_key=False)
    return message


def job(message: Message) -> Job:
    """The job of a received `job` message."""
    client = dict(message["client"])
    client["tasks"] = tuple(client["tasks"])
    return Job(**{**message, "client": Client(**client)})


def result(message: Message) -> Result:
    """The result of a received `result` message."""
    return Result(**message)


def validated(message: Message) -> Validated:
    """The validation of a received `validated` message."""
    return Validated(**message)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return msgpack.ExtType(_PATH, str(value).encode())
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (Job, Client, Result, Validated)):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    raise TypeError(f"a {type(value).__name__} can't be sent to a worker")


def _extension(code: int, data: bytes) -> Any:
    return Path(data.decode()) if code == _PATH else msgpack.ExtType(code, data)
