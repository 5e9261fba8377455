"""The made-up records with which dashboards are tried have the shapes of real ones."""

from __future__ import annotations

import functools
import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard.chained_world import chained_world
from fedmq.records.base import Document, Records
from fedmq.records.sqlite import SqliteRecords
from fedmq_schemas import records as tables

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
Shapes = dict[str, dict[str, set[str]]]
NOT_SIMULATED = {"clients": {"package"}}
"""Fields that the simulation leaves empty, by the kind of record."""


@functools.cache
def generated() -> Records:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        module = importlib.import_module("generate_records")
        records = SqliteRecords(Path(tempfile.mkdtemp(prefix="fedmq-generated-")) / "records.db")
        module.generate(records, 80, 15)
    return records


def shapes(records: Records) -> Shapes:
    """Returns the types of each field, by the kind of record."""
    found: Shapes = {}
    for kind, document in (pair for table in tables.TABLES for pair in _kinds(records, table)):
        fields = found.setdefault(kind, {})
        for name, value in document.items():
            fields.setdefault(name, set()).add(type(value).__name__)
    return found


def _kinds(records: Records, table: str) -> Iterator[tuple[str, Document]]:
    """Returns the documents, those of one table apart where they differ by a state or an outcome."""
    for document in records.find(table):
        if table == tables.SESSIONS:
            state = "ended" if document["state"] in tables.ENDED else document["state"]
            yield f"session {state}", document
        elif table == tables.MODELS:
            yield f"model {'seed' if document['session'] is None else 'made'}", document
        elif table == tables.EVENTS:
            yield f"event {document['name']}", {name: document[name] for name in document if name != "cause"}
            yield f"data of {document['name']}", document["data"]
        elif table == tables.PARTICIPATION:
            yield table, document
            yield from _tasks(document)
        else:
            yield table, document


def _tasks(document: Document) -> Iterator[tuple[str, Document]]:
    for index, (client, outcome) in enumerate(zip(document["clients"], document["outcomes"], strict=True)):
        measured = [values[index] for step, values in document["seconds"].items() if step == "total"]
        yield (
            f"task {outcome}",
            {
                "at": document["at"][index],
                "norm": document["norms"][index],
                "has_weight": "yes" if document["weights"][index] else None,
                "total": measured[0],
                "reason": document["reasons"].get(client),
            },
        )


@functools.cache
def shapes_of_generated() -> Shapes:
    return shapes(generated())


@functools.cache
def real() -> Shapes:
    return shapes(chained_world())


def test_all_kinds_that_a_real_alliance_records_are_generated() -> None:
    made = ("task.progress", "client.attached", "client.joined")
    events = {f"{what} {name}" for name in made for what in ("event", "data of")}
    left_out = events | {"partials", "session running"}
    assert set(real()) - set(shapes_of_generated()) == left_out


def test_generated_records_have_the_fields_of_real_ones() -> None:
    made, true = shapes_of_generated(), real()
    assert {kind: set(made[kind]) for kind in made if kind in true} == {
        kind: set(true[kind]) for kind in true if kind in made
    }


def test_generated_records_know_what_real_ones_know() -> None:
    made, true = shapes_of_generated(), real()
    wrong = {
        f"{kind} {name}": (found, true[kind][name])
        for kind in made
        if kind in true
        for name, found in made[kind].items()
        if name not in NOT_SIMULATED.get(kind, ()) and not found <= true[kind][name] | {"float", "int"}
    }
    assert wrong == {}


def test_the_generated_session_after_the_first_starts_from_its_last_model() -> None:
    sessions = {session["session"]: session for session in generated().find(tables.SESSIONS)}
    assert sessions["s-short"]["seed"] == sessions["s-long"]["model"]
    assert {session["state"] for session in sessions.values()} == {"finished", "stopped", "queued"}
