"""`fedmq sandbox …` that kills itself at one exact place: `python crashing.py PLACE NUMBER ARGUMENT…`."""

import os
import signal
import sys
from typing import Any

from fedmq.blobs import files
from fedmq.records.sqlite import SqliteRecords
from fedmq_cli.app import main
from fedmq_schemas import keys
from fedmq_schemas import records as tables


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def replace(owner: type, name: str, method: Any) -> None:
    setattr(owner, name, method)


def main_that_dies(place: str, number: int) -> None:
    count = 0

    def is_it() -> bool:
        nonlocal count
        count += 1
        return count == number

    if place == "inside a blob write":
        rename = files.FileBlobs._rename

        def put(self: files.FileBlobs, partial: str, target: str) -> None:
            if "/models/" in target and is_it():
                os.truncate(partial, 40)
                die()
            rename(self, partial, target)

        replace(files.FileBlobs, "_rename", put)
    elif place in ("before the commit", "after the commit"):
        insert = SqliteRecords.insert

        def commit(self: SqliteRecords, table: str, *arguments: Any) -> Any:
            is_commit = table == tables.ROUNDS and is_it()
            if is_commit and place == "before the commit":
                die()
            result = insert(self, table, *arguments)
            if is_commit:
                die()
            return result

        replace(SqliteRecords, "insert", commit)
    elif place in ("before the score", "after the score"):
        update = SqliteRecords.update

        def score(self: SqliteRecords, table: str, key: str, fields: Any, *fence: Any) -> None:
            is_score = "score" in fields and is_it()
            if is_score and place == "before the score":
                die()
            update(self, table, key, fields, *fence)
            if is_score:
                die()

        replace(SqliteRecords, "update", score)
    elif place in ("before a model is deleted", "after a model is deleted"):
        delete = files.FileBlobs.delete

        def deletion(self: files.FileBlobs, key: str) -> None:
            is_model = key.startswith(keys.ALL_MODELS) and is_it()
            if is_model and place == "before a model is deleted":
                die()
            delete(self, key)
            if is_model:
                die()

        replace(files.FileBlobs, "delete", deletion)
    else:
        raise SystemExit(f"no such place: {place}")
    main()


if __name__ == "__main__":
    place, number = sys.argv[1], int(sys.argv[2])
    sys.argv = ["fedmq", *sys.argv[3:]]
    main_that_dies(place, number)
