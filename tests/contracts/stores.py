"""What the contract suites of the stores need beside the ports: stores to open, and a clock."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from fedmq.blobs.s3 import S3Blobs
from fedmq.errors import Transient
from fedmq.records.documents import LEASE_TABLE
from fedmq.records.mongo import MongoRecords
from fedmq_schemas.records import TABLES
from support.clock import Clock
from support.servers.mongo import MongoServer
from support.servers.seaweedfs import S3Server

T = TypeVar("T")


def open_s3(server: S3Server, **options: Any) -> S3Blobs:
    """Returns an empty store, whatever earlier tests have put there."""
    blobs = S3Blobs(server.endpoint, server.access_key, server.secret_key, **options)
    for info in blobs.list(""):
        blobs.delete(info.key)
    return blobs


def open_mongo(server: MongoServer, clock: Clock) -> MongoRecords:
    """Returns an empty store, whatever earlier tests have put there."""
    records = MongoRecords(server.host, server.port, "test", clock=clock)
    for table in (*TABLES, LEASE_TABLE):
        if records.count(table):
            records.delete(table, {})
    return records


def patiently(call: Callable[[], T]) -> T:
    """Repeats a call that raises `Transient`, as all callers do, for at most 30 s."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return call()
        except Transient:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
