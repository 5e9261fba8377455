"""Copies the records of an alliance that is running, so that the copies agree with each other."""

from __future__ import annotations

from typing import Any

from fedmq.records.base import Document, Records
from fedmq.records.documents import LEASE_KEY, LEASE_TABLE
from fedmq_cli.backup.named_blobs import documents
from fedmq_schemas import records as tables

BATCH = 100
"""Records that are written at once. A server bounds the memory of one write, some far below what MongoDB takes."""


def copy_records(source: Records, target: Records) -> None:
    """Copies all records. Those of a session are cut off after the newest round whose commit is copied.

    Sessions are read first and rounds second: if the record of a session says that it has ended, all its rounds are there.
    What other tables say of later rounds is left out. A session that was open goes on from its last copied round.
    """
    copy_table(source, target, tables.SESSIONS)
    copy_table(source, target, tables.ROUNDS)
    newest: dict[str | None, int] = {key: 0 for key, _ in documents(target, tables.SESSIONS)}
    for _, committed in documents(target, tables.ROUNDS):
        if committed["session"] in newest:
            newest[committed["session"]] = max(newest[committed["session"]], committed["round"])
    for table in tables.TABLES:
        if table not in (tables.SESSIONS, tables.ROUNDS):
            copy_table(source, target, table, newest)
    lease = source.get(LEASE_TABLE, LEASE_KEY)
    if lease is not None:
        target.put(LEASE_TABLE, LEASE_KEY, {"holder": "", "epoch": lease["epoch"], "expires": 0.0})


def copy_table(
    source: Records,
    target: Records,
    table: str,
    newest: dict[str | None, int] | None = None,
    fence: int | None = None,
) -> None:
    """Copies a table. With `newest`, the newest round of each session, leaves out other sessions and later rounds."""
    batch: list[tuple[str, Document]] = []
    for key, document in documents(source, table):
        if newest is None or _is_within(document, newest):
            batch.append((key, document))
        if len(batch) >= BATCH:
            target.put_many(table, batch, fence)
            batch = []
    target.put_many(table, batch, fence)


def _is_within(document: Document, newest: dict[str | None, int]) -> bool:
    session = document.get("session")
    if session is None:
        return True
    round_: Any = document["partial"]["plan"]["round"] if "partial" in document else document.get("round")
    return session in newest and (round_ is None or round_ <= newest[session])
