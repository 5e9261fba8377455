"""A write to MongoDB that meets another one is refused with a code, and is done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, OperationFailure

from fedmq.errors import ConfigError, Transient
from fedmq.records.base import Lease
from fedmq.records.mongo import MongoRecords

WRITE_CONFLICT = 112
UNAUTHORIZED = 13


def bulk(*codes: int) -> BulkWriteError:
    return BulkWriteError({"writeErrors": [{"index": index, "code": code} for index, code in enumerate(codes)]})


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[MongoRecords]:
    """Records on a server that accepts each write, except as a test says; nothing is connected."""
    for call in ("delete_one", "create_index"):
        monkeypatch.setattr(Collection, call, lambda *_, **__: None)
    found = MongoRecords("127.0.0.1", 1, "fedmq")
    yield found
    found.close()


CONFLICT = OperationFailure("WriteConflict error", WRITE_CONFLICT)
WRITES: dict[str, tuple[str, OperationFailure, Callable[[MongoRecords], object]]] = {
    "insert": ("insert_one", CONFLICT, lambda records: records.insert("rounds", "a", {"is": 1})),
    "put": ("bulk_write", bulk(WRITE_CONFLICT), lambda records: records.put("rounds", "a", {"is": 1})),
    "update": ("update_one", CONFLICT, lambda records: records.update("rounds", "a", {"is": 1})),
    "put_many": (
        "insert_many",
        bulk(11000, WRITE_CONFLICT),
        lambda records: records.put_many("rounds", [("a", {})] * 2),
    ),
    "insert_many": (
        "insert_many",
        bulk(11000, WRITE_CONFLICT),
        lambda records: records.insert_many("rounds", [("a", {}), ("b", {})]),
    ),
    "delete": ("delete_many", CONFLICT, lambda records: records.delete("rounds", {"is": 1})),
    "renew": ("update_one", CONFLICT, lambda records: records.renew(Lease("me", 1), 10.0)),
    "release": ("update_one", CONFLICT, lambda records: records.release(Lease("me", 1))),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_met_another_one_may_be_done_again(
    records: MongoRecords, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    call, error, perform = WRITES[write]
    monkeypatch.setattr(Collection, call, _raising(error))
    with pytest.raises(Transient, match="refused with code 112"):
        perform(records)


def test_an_account_without_the_right_to_write_is_a_fault_of_the_settings(
    records: MongoRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Collection, "insert_many", _raising(bulk(UNAUTHORIZED)))
    with pytest.raises(ConfigError, match="code 13: see FEDN_MONGO_USER"):
        records.put_many("rounds", [("a", {})])


def _raising(error: Exception) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise error

    return call
