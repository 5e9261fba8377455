"""A session starts from the last model of one that has ended: what each of them found of that model stays its own."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from dashboard.rendering import show
from fedmq.records.sqlite import SqliteRecords
from fedmq_schemas import records as tables
from fedmq_sdk import Alliance, SessionHandle
from support.packages import write_package
from support.servers.served import served

ROUNDS = 2
LOSSES = {"first": [1.0, 2.0, 3.0], "second": [103.0, 104.0, 105.0]}
"""The clients' mean loss of each model: it grows by one a round, and by 100 in the second session."""

TRAINER = """
import numpy as np

class Trainer:
    def __init__(self, client):
        pass

    def init(self):
        return {"w": np.ones(1)}

    def train(self, weights, task):
        return {"w": weights["w"] + 1}, 1, {}

    def validate(self, weights, task):
        return 1, {"loss": float(weights["w"][0]) + task.config["offset"]}
"""

Texts = dict[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Chain:
    """Both sessions by their place, and the documents of the first one, as they were before and after the second one."""

    alliance: Alliance
    folder: Path
    sessions: dict[str, SessionHandle]
    before: Texts
    after: Texts


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("alliance")
    with served(folder / "state", write_package(folder / "package", TRAINER)) as box:
        alliance, database = Alliance(box.url), folder / "state" / "records.db"
        first = _trained(alliance, database, 0.0)
        before = _texts(database, first.id)
        second = _trained(alliance, database, 100.0, seed=first.model)
        after = _texts(database, first.id)
        yield Chain(alliance, folder / "state", {"first": first, "second": second}, before, after)


def _trained(alliance: Alliance, database: Path, offset: float, **policy: Any) -> SessionHandle:
    """Returns a session that has ended and whose end is recorded with all that was published before it."""
    session = alliance.start(rounds=ROUNDS, train={"offset": offset}, random_seed=1, **policy)
    session.wait(60)
    ends = time.monotonic() + 60
    while not (session.refresh()["announced"] and ("events", f"ended-{session.id}") in _texts(database, session.id)):
        assert time.monotonic() < ends, "the end of the session was not recorded"
        time.sleep(0.01)
    return session


def _texts(database: Path, session: str) -> Texts:
    """Returns the documents of a session as they are stored, by table and key."""
    found: Texts = {}
    db = sqlite3.connect(database)
    try:
        stored = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in sorted(stored & tables.TABLES.keys()):
            rows = db.execute(f"SELECT key, document FROM {table} WHERE document ->> '$.session' = ?", (session,))
            found |= {(table, key): text for key, text in rows}
    finally:
        db.close()
    return found


def test_no_document_of_the_first_session_is_another_one_after_the_second_session(chain: Chain) -> None:
    assert {table for table, _ in chain.before} >= {"sessions", "rounds", "models", "validations", "events"}
    assert chain.after == chain.before


@pytest.mark.parametrize("place", LOSSES)
def test_the_api_gives_each_session_the_metrics_that_it_found_itself(chain: Chain, place: str) -> None:
    session = chain.sessions[place]
    answer = urllib3.request("GET", f"{chain.alliance.url}/sessions/{session.id}/metrics").json()
    rows = [(item["round"], item["metrics"]["loss"]["mean"]) for item in answer["items"]]
    assert rows == list(enumerate(LOSSES[place]))


def test_the_dashboards_page_of_the_shared_model_names_the_session_that_started_from_it(chain: Chain) -> None:
    records = SqliteRecords(chain.folder / "records.db")
    try:
        shown = show(records, "/models", f"?model={chain.sessions['first'].model}")
    finally:
        records.close()
    assert f"/?session={chain.sessions['second'].id}" in shown.links
    captions = [str(each.children) for each in shown.elements() if type(each).__name__ == "Caption"]
    assert f"Metrics of this model in session {chain.sessions['second'].id}" in captions
    assert str(int(LOSSES["first"][-1])) in shown.text and str(int(LOSSES["second"][0])) in shown.text


def test_a_model_keeps_the_metrics_of_its_own_session_and_names_the_others_beside_them(chain: Chain) -> None:
    first, second = chain.sessions["first"], chain.sessions["second"]
    shared = str(first.model)
    assert chain.alliance.model(shared)["metrics"]["loss"]["mean"] == LOSSES["first"][-1]
    assert [(row["session"], row["loss"]) for row in chain.alliance.summaries(shared)] == [
        (second.id, LOSSES["second"][0])
    ]
