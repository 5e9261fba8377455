"""The past, read from the records: every query is bounded, and what can't change is read once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from fedmq.records.base import Document, Records
from fedmq.records.trail import first_model, summary_in
from fedmq.records.without_metrics import not_accepted, not_accepted_lines, without_metrics, without_metrics_lines
from fedmq_dashboard.columns import Columns, columns_of
from fedmq_schemas import records as tables
from fedmq_schemas.records import ENDED

T = TypeVar("T")

MOST_SESSIONS = 500
MOST_MODELS = 2_000
MOST_EVENTS = 5_000
KEPT_SESSIONS = 8


@dataclass(slots=True)
class Grown(Generic[T]):
    """The known rows of one session in a table that only grows. `last` is the newest round."""

    last: int | None = None
    items: list[T] = field(default_factory=list)


class History:
    """Reads records for pages. Safe across threads. Raises the errors of `Records`."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._lock = threading.Lock()
        self._rounds: OrderedDict[str, Grown[Document]] = OrderedDict()
        self._columns: OrderedDict[str, Grown[Columns]] = OrderedDict()
        self._causes: OrderedDict[str, tuple[tuple[str, int], list[str]]] = OrderedDict()

    # -- sessions and rounds ----------------------------------------------------------------------------------------

    def sessions(self) -> Sequence[Document]:
        """Returns the sessions, newest first."""
        return self._records.find(tables.SESSIONS, order="created_at", descending=True, limit=MOST_SESSIONS)

    def session(self, name: str | None) -> Document | None:
        """Returns the named session, or else the running one, or else the newest one."""
        if name:
            return self._records.get(tables.SESSIONS, name)
        known = self.sessions()
        running = [document for document in known if document["state"] not in (*ENDED, "queued")]
        return next(iter(running or known), None)

    def rounds(self, session: str) -> list[Document]:
        """Returns the committed rounds in order."""
        return self._grow(self._rounds, tables.ROUNDS, session, lambda document: document)

    def rounds_done(self, session: Mapping[str, Any]) -> int:
        """Returns the number of committed rounds. A session that ended has it in its record."""
        ended: int | None = session.get("round")
        if ended is not None:
            return ended
        newest = self._records.find(
            tables.ROUNDS, {"session": session["session"]}, order="round", descending=True, limit=1
        )
        return newest[0]["round"] if newest else 0

    def participation(self, session: str) -> list[Columns]:
        """Returns the outcomes of each aggregated round in order."""
        return self._grow(self._columns, tables.PARTICIPATION, session, columns_of)

    def late(self, session: str) -> list[tuple[int, str]]:
        """Returns round and client of the updates that were discarded, which includes all late ones."""
        found = self.events({"session": session, "name": "update.discarded"})
        return [(event["round"], event["client"]) for event in found]

    def attempts(self, session: str) -> Sequence[Document]:
        """Returns all attempts of a session."""
        return self._records.find(tables.ATTEMPTS, {"session": session})

    def newest_attempt(self, session: str) -> Document | None:
        """Returns the newest attempt of a session."""
        found = self._records.find(tables.ATTEMPTS, {"session": session}, order="created_at", descending=True, limit=1)
        return next(iter(found), None)

    def _grow(
        self, kept: OrderedDict[str, Grown[T]], table: str, session: str, convert: Callable[[Document], T]
    ) -> list[T]:
        """Returns all rows of a session. Reads only those after the last known one, as committed rounds never change."""
        with self._lock:
            known = kept.setdefault(session, Grown())
            kept.move_to_end(session)
            while len(kept) > KEPT_SESSIONS:
                kept.popitem(last=False)
            for document in self._records.find(table, {"session": session}, order="round", after=known.last):
                known.items.append(convert(document))
                known.last = document["round"]
            return list(known.items)

    # -- models -----------------------------------------------------------------------------------------------------

    def trail(self, session: Mapping[str, Any]) -> list[Document]:
        """Returns the session's models in order, with their summaries in it, from that of its start as round 0."""
        first = first_model(self._records, session)
        known = self._records.get(tables.MODELS, first["model"]) if first else None
        seed = [{**known, **first, "session": session["session"], "round": 0}] if known and first else []
        made = self._records.find(tables.MODELS, {"session": session["session"]}, order="round", limit=MOST_MODELS)
        return seed + [self._with_metrics(model) for model in made]

    def models(self, limit: int = MOST_MODELS) -> list[Document]:
        """Returns all models, newest first, each with the summary of its validations in the session that made it."""
        found = self._records.find(tables.MODELS, order="created_at", descending=True, limit=limit)
        return [self._with_metrics(model) for model in found]

    def findings(self) -> list[Document]:
        """Returns all models, newest first, with a row for each session that made it or started from it."""
        found: list[Document] = []
        summaries: dict[str, list[Document]] = {}
        for each in self._records.find(tables.SUMMARIES, order="at", descending=True, limit=MOST_MODELS):
            summaries.setdefault(each["model"], []).append(each)
        for model in self.models():
            started = summaries.get(model["model"], [])
            found += [{**model, **{name: each[name] for name in ("session", "round", "metrics")}} for each in started]
            if model["session"] is not None or not started:
                found.append(model)
        return found

    def model(self, name: str) -> Document | None:
        """Returns a model with the summary of its validations in the session that made it."""
        found = self._records.get(tables.MODELS, name)
        return None if found is None else self._with_metrics(found)

    def _with_metrics(self, model: Document) -> Document:
        """Adds the summary of validations to a model. The reducer records the summary only when validation has ended."""
        if model["metrics"] or model["session"] is None:
            return model
        return model | {"metrics": summary_in(self._records, model["session"], model["model"])}

    def summaries(self, model: str) -> Sequence[Document]:
        """Returns the summaries of a model in the sessions that started from it, newest first."""
        return self._records.find(tables.SUMMARIES, {"model": model}, order="at", descending=True, limit=MOST_SESSIONS)

    def validations(self, session: str, model: str) -> Sequence[Document]:
        """Returns the validations of a model by each client and evaluator in a session."""
        return self._records.find(tables.VALIDATIONS, {"session": session, "model": model})

    def causes(self, session: Mapping[str, Any]) -> list[str]:
        """Returns lines that state why updates were not accepted and why validations have no metrics.

        They are read again after a round or a change.
        """
        name, state = session["session"], (session["state"], self.rounds_done(session))
        with self._lock:
            known = self._causes.get(name)
        if known is None or known[0] != state:
            lines = not_accepted_lines(not_accepted(self._records, name))
            known = state, [*lines, *without_metrics_lines(without_metrics(self._records, name))]
            with self._lock:
                self._causes[name] = known
                self._causes.move_to_end(name)
                while len(self._causes) > KEPT_SESSIONS:
                    self._causes.popitem(last=False)
        return known[1]

    # -- members and events -----------------------------------------------------------------------------------------

    def clients(self) -> Sequence[Document]:
        """Returns all clients."""
        return self._records.find(tables.CLIENTS)

    def combiners(self) -> Sequence[Document]:
        """Returns all combiners."""
        return self._records.find(tables.COMBINERS)

    def events(self, where: Mapping[str, Any] | None = None, limit: int = MOST_EVENTS) -> Sequence[Document]:
        """Returns events, newest first."""
        return self._records.find(tables.EVENTS, where, order="at", descending=True, limit=limit)

    def events_after(self, session: str, at: float) -> Sequence[Document]:
        """Returns a session's events after the time `at`, oldest first."""
        return self._records.find(tables.EVENTS, {"session": session}, order="at", after=at, limit=MOST_EVENTS)

    def system(self) -> Sequence[Document]:
        """Returns the newest state of queues and stores that a reducer has recorded."""
        return self._records.find(tables.SYSTEM)
