"""The state of open rounds, made from events: reading it from records at each event is too expensive. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fedmq_schemas.records import ENDED

Document = Mapping[str, Any]
Topic = Literal["any", "rounds"]
Revisions = dict[Topic, int]

KNOWN_LENGTH = 20_000
EARLY_LENGTH = 2_000

_ENDINGS = frozenset(f"session.{state}" for state in ENDED)
_CHATTER = ("task.progress", "update.", "model.validated")


@dataclass(frozen=True, slots=True)
class RoundInProgress:
    """An attempt whose plans are published. `answers`: client → outcome; `fractions`: client → reported progress."""

    session: str
    round: int
    attempt: int
    planned_at: float
    timeout: float
    asked: int
    answers: Mapping[str, str] = field(default_factory=dict)
    fractions: Mapping[str, float] = field(default_factory=dict)

    @property
    def deadline(self) -> float:
        """UTC seconds since 1970 at which the attempt ends."""
        return self.planned_at + self.timeout


class EventFeed:
    """Applies events in any order, each once. `revisions` grow: `any` with each event, `rounds` with decisions."""

    def __init__(self) -> None:
        self.revisions: Revisions = {"any": 0, "rounds": 0}
        self._open: dict[str, RoundInProgress] = {}
        self._answers: dict[str, dict[str, str]] = {}
        self._fractions: dict[str, dict[str, float]] = {}
        self._known: dict[str, None] = {}
        self._early: deque[Document] = deque(maxlen=EARLY_LENGTH)

    def apply(self, events: Iterable[Document]) -> bool:
        """Applies events and returns whether any of them was new."""
        fresh = [event for event in events if self._is_new(event["id"])]
        for event in fresh:
            self._apply(event)
        if fresh:
            self.revisions["any"] += 1
            self.revisions["rounds"] += any(not event["name"].startswith(_CHATTER) for event in fresh)
        return bool(fresh)

    def touch(self) -> None:
        """Increases all revisions, after a change that no event reports."""
        for topic in self.revisions:
            self.revisions[topic] += 1

    def open_round(self, session: str) -> RoundInProgress | None:
        """Returns a copy of the session's open round, which other threads may read."""
        found = self._open.get(session)
        if found is None:
            return None
        return replace(found, answers=dict(self._answers[session]), fractions=dict(self._fractions[session]))

    def _is_new(self, event_id: str) -> bool:
        if event_id in self._known:
            return False
        self._known[event_id] = None
        if len(self._known) > KNOWN_LENGTH:
            del self._known[next(iter(self._known))]
        return True

    def _apply(self, event: Document) -> None:
        name, session = event["name"], event["session"]
        if name == "round.planned":
            self._plan(event)
        elif name in _ENDINGS:
            self._close(session)
        elif name == "round.committed":
            self._close(session, up_to=event["round"])
        elif name.startswith("update."):
            self._answer(event, name.removeprefix("update."))
        elif name == "task.progress" and self._is_open(event):
            self._fractions[session][event["client"]] = float(event["data"]["fraction"])

    def _plan(self, event: Document) -> None:
        session, data = event["session"], event["data"]
        known = self._open.get(session)
        if known is not None and (known.round, known.attempt) > (event["round"], data["attempt"]):
            return
        self._open[session] = RoundInProgress(
            session, event["round"], data["attempt"], event["at"], data["timeout"], data["clients"]
        )
        self._answers[session], self._fractions[session] = {}, {}
        early, self._early = self._early, deque(maxlen=EARLY_LENGTH)
        for answer in early:
            self._apply(answer)

    def _is_open(self, event: Document) -> bool:
        known = self._open.get(event["session"])
        return known is not None and known.round == event["round"] and event["at"] >= known.planned_at

    def _answer(self, event: Document, outcome: str) -> None:
        if not self._is_open(event):
            self._early.append(event)
            return
        answers = self._answers[event["session"]]
        if outcome == "discarded":
            answers.setdefault(event["client"], outcome)
        else:
            answers[event["client"]] = outcome

    def _close(self, session: str, up_to: int | None = None) -> None:
        known = self._open.get(session)
        if known is not None and (up_to is None or known.round <= up_to):
            del self._open[session], self._answers[session], self._fractions[session]
