"""A write to MongoDB that meets another one is refused with a code, and is done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import bson
import pytest
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, OperationFailure

from fedmq.errors import ConfigError, ProtocolError, Refused, Transient
from fedmq.records.base import Lease
from fedmq.records.mongo import MongoRecords
from fedmq.records.mongo_conflicts import ATTEMPTS, WRITE_CONFLICT

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


@pytest.mark.parametrize("call", ["insert", "update", "delete"])
def test_a_call_that_met_another_one_is_repeated(
    records: MongoRecords, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    name, error, perform = WRITES[call]
    left = [error] * (ATTEMPTS - 1)

    def written(*_: Any, **__: Any) -> SimpleNamespace:
        if left:
            raise left.pop()
        return SimpleNamespace(matched_count=1, deleted_count=1)

    monkeypatch.setattr(Collection, name, written)
    perform(records)
    assert left == []


def test_a_reader_does_not_see_a_conflict(records: MongoRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [CONFLICT, CONFLICT]

    def found(*_: Any, **__: Any) -> dict[str, int]:
        if left:
            raise left.pop()
        return {"is": 1}

    monkeypatch.setattr(Collection, "find_one", found)
    assert records.get("rounds", "a") == {"is": 1}


def test_an_account_without_the_right_to_write_is_a_fault_of_the_settings(
    records: MongoRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Collection, "insert_many", _raising(bulk(UNAUTHORIZED)))
    with pytest.raises(ConfigError, match="code 13: see FEDN_MONGO_USER"):
        records.put_many("rounds", [("a", {})])


@pytest.mark.parametrize("code", [6, 11600, 10107, 50, 64, 14031])
def test_an_outage_passes_so_that_the_write_is_done_again(
    records: MongoRecords, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(Collection, "update_one", _raising(OperationFailure("not now", code)))
    with pytest.raises(Transient, match=f"refused with code {code}"):
        records.update("rounds", "a", {"is": 1})


def test_an_error_that_the_server_calls_retryable_passes_whatever_its_code(
    records: MongoRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OperationFailure("new", 4711, {"errorLabels": ["RetryableWriteError"]})
    monkeypatch.setattr(Collection, "update_one", _raising(error))
    with pytest.raises(Transient):
        records.update("rounds", "a", {"is": 1})


@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_the_server_would_refuse_again_is_refused_with_its_reason(
    records: MongoRecords, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    """It was tried again for ever, and everything behind it waited."""
    call, error, perform = WRITES[write]
    reason = "Document failed validation"
    refused: OperationFailure = OperationFailure(reason, 121)
    if isinstance(error, BulkWriteError):
        refused = BulkWriteError({"writeErrors": [{"index": 0, "code": 121, "errmsg": reason}]})
    monkeypatch.setattr(Collection, call, _raising(refused))
    with pytest.raises(Refused, match="refused with code 121: Document failed validation"):
        perform(records)


def test_a_document_with_half_a_character_is_no_record(records: MongoRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(_: object, document: dict[str, object]) -> None:
        bson.encode(document)

    monkeypatch.setattr(Collection, "insert_one", encode)
    with pytest.raises(ProtocolError, match=r"not a record: .*surrogates not allowed"):
        records.insert("rounds", "a", {"says": "\ud800"})


def _raising(error: Exception) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise error

    return call
