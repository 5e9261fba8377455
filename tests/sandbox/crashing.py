"""`fedmq sandbox …` that kills itself at one exact place: `python crashing.py PLACE NUMBER ARGUMENT…`."""

import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from fedmq.blobs.files import FileBlobs
from fedmq.brokers.memory.connection import MemoryConnection
from fedmq.records.sqlite import SqliteRecords
from fedmq_cli.app import main
from fedmq_schemas import records as tables

Call = tuple[type, str, Callable[..., bool]]
"""A method, and which of its calls count, by their arguments."""
WRITES = ("insert", "put", "update", "put_many", "insert_many", "delete")
CALLS: dict[str, list[Call]] = {
    "a blob write": [(FileBlobs, "_rename", lambda _, target: "/models/" in target)],
    "the commit": [(SqliteRecords, "insert", lambda table, *_: table == tables.ROUNDS)],
    "a validation": [(SqliteRecords, name, lambda table, *_: table == tables.VALIDATIONS) for name in WRITES],
    "anything": [
        (FileBlobs, "_rename", lambda *_: True),
        (FileBlobs, "delete", lambda *_: True),
        *((SqliteRecords, name, lambda *_: True) for name in WRITES),
        (MemoryConnection, "publish", lambda *_: True),
        (MemoryConnection, "ack", lambda *_: True),
    ],
}


def die_at(place: str, number: int) -> None:
    """Makes the process kill itself `before`, `after` or `inside` the `number`-th of these calls: `after the commit`.

    Inside a blob write the file is cut off first.
    """
    when, _, what = place.partition(" ")
    count = itertools.count(1)
    for owner, name, counts in CALLS[what]:
        setattr(owner, name, _dying(getattr(owner, name), when, lambda *a, c=counts: c(*a) and next(count) == number))


def _dying(method: Any, when: str, is_it: Callable[..., bool]) -> Any:
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        is_now = is_it(*arguments)
        if is_now and when == "inside":
            os.truncate(arguments[0], 40)
        if is_now and when != "after":
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(self, *arguments, **named)
        if is_now:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


if __name__ == "__main__":
    die_at(sys.argv[1], int(sys.argv[2]))
    sys.argv = ["fedmq", *sys.argv[3:]]
    main()
