"""What a reducer that takes over reads, and what it says of a record that it can't read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from fedmq.errors import Fenced, ProtocolError, Refused
from fedmq.records.base import Lease
from fedmq.records.sqlite import SqliteRecords
from fedmq_reducer.operations import RecordClients
from fedmq_reducer.performers.record_performer import RecordPerformer
from fedmq_reducer.sessions.recording import RecordWindow
from fedmq_reducer.snapshot import Load
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.records import ClientRecord, ValidationRequest, WindowRecord
from reducer.sessions.records import session_record

CLIENT = ClientRecord(client="c1", labels={}, tasks=("train",), weight=1, combiner="k1", state="present", last_seen=0.0)


def test_what_was_recorded_is_read() -> None:
    records = SqliteRecords(":memory:")
    records.put(tables.CLIENTS, "c1", CLIENT.document())
    assert RecordPerformer("r1", records).load(Load()).clients == (CLIENT,)


def test_whom_an_open_session_has_requested_to_validate_is_read_as_it_was_recorded_last() -> None:
    records = SqliteRecords(":memory:")
    records.put(tables.SESSIONS, "s", session_record().document())
    lease = records.acquire("r1", 10.0)
    assert isinstance(lease, Lease)
    performer = RecordPerformer("r1", records)
    request = ValidationRequest(combiner="k1", clients=("c1",), at=5.0)
    window = WindowRecord(session="s", round=1, model="m", requests=(request,), closes_at=35.0)
    for each in (window, window.model_copy(update={"absent": ("c1",)})):
        performer.performers()[RecordWindow](RecordWindow(each, lease.epoch))
        assert performer.load(Load()).sessions[0].windows == (each,)
    assert records.get(tables.WINDOWS, keys.round_record("s", 1)) is not None


def test_a_record_that_cant_be_read_is_named_with_its_fault() -> None:
    records = SqliteRecords(":memory:")
    records.put(tables.CLIENTS, "c1", {**CLIENT.document(), "state": "paused"})
    with pytest.raises(Refused, match=r"a record of table clients can't be read \(client 'c1', combiner 'k1'\): state"):
        RecordPerformer("r1", records).load(Load())


class PickyRecords(SqliteRecords):
    """Refuses what holds `bad`. `requests`: how often many records were written at once."""

    requests = 0

    def put_many(self, table: str, items: Iterable[tuple[str, Mapping[str, Any]]], fence: int | None = None) -> None:
        self.requests += 1
        items = list(items)
        if any("bad" in key for key, _ in items):
            raise ProtocolError("not a record: key names must not contain NUL")
        super().put_many(table, items, fence)


@pytest.mark.parametrize("names", [("bad",), ("bad1", "c1", "c2"), ("c1", "bad1", "c2", "bad2")])
def test_a_record_that_is_refused_is_left_out_of_those_that_are_written_with_it(names: tuple[str, ...]) -> None:
    records = PickyRecords(":memory:")
    write = RecordPerformer("r1", records).performers()[RecordClients]
    clients = tuple(CLIENT.model_copy(update={"client": name}) for name in names)
    with pytest.raises(ProtocolError, match="must not contain NUL"):
        write(RecordClients(clients, None))
    assert [each["client"] for each in records.find(tables.CLIENTS)] == [each for each in names if "bad" not in each]


def test_records_that_a_fence_refuses_are_not_written_one_by_one() -> None:
    records = PickyRecords(":memory:")
    records.acquire("r1", 10.0)
    records.release(Lease("r1", 1))
    records.acquire("r2", 10.0)
    clients = tuple(CLIENT.model_copy(update={"client": name}) for name in ("c1", "c2"))
    with pytest.raises(Fenced):
        RecordPerformer("r1", records).performers()[RecordClients](RecordClients(clients, 1))
    assert records.requests == 1
