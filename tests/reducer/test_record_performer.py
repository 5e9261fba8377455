"""What a reducer that takes over reads, and what it says of a record that it can't read."""

from __future__ import annotations

import pytest

from fedmq.errors import Refused
from fedmq.records.sqlite import SqliteRecords
from fedmq_reducer.performers.record_performer import RecordPerformer
from fedmq_reducer.snapshot import Load
from fedmq_schemas import records as tables
from fedmq_schemas.records import ClientRecord

CLIENT = ClientRecord(client="c1", labels={}, tasks=("train",), weight=1, combiner="k1", state="present", last_seen=0.0)


def test_what_was_recorded_is_read() -> None:
    records = SqliteRecords(":memory:")
    records.put(tables.CLIENTS, "c1", CLIENT.document())
    assert RecordPerformer("r1", records).load(Load()).clients == (CLIENT,)


def test_a_record_that_cant_be_read_is_named_with_its_fault() -> None:
    records = SqliteRecords(":memory:")
    records.put(tables.CLIENTS, "c1", {**CLIENT.document(), "state": "paused"})
    with pytest.raises(Refused, match=r"a record of table clients can't be read \(client 'c1', combiner 'k1'\): state"):
        RecordPerformer("r1", records).load(Load())
