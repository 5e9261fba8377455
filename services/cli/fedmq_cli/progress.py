"""The state of one running session as its views show it, made from events. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fedmq.metrics import is_scalar
from fedmq_schemas.messages import Event

NEAR = ("accuracy", "loss")
_ANSWERS = ("accepted", "rejected", "discarded", "abstained", "failed", "absent")


@dataclass(slots=True)
class Round:
    """One round. `scores` are the test metrics of the model that it made; `seconds` is None until its commit."""

    number: int
    asked: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_ANSWERS, 0))
    seconds: float | None = None
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class SessionProgress:
    """One session. `clients`: a word or two on what each client does; `answered`: the round of its last answer.

    `notes`: what results lack, and why a validation failed, each with the client that it was first received from.
    """

    rounds_wanted: int
    session: str = ""
    state: str = "starting"
    reason: str = ""
    rounds: dict[int, Round] = field(default_factory=dict)
    clients: dict[str, str] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def round(self, number: int) -> Round:
        """Returns the round, a new one if no event has named it yet."""
        return self.rounds.setdefault(number, Round(number))

    def feed(self, event: Event) -> None:
        """Applies an event. Ignores events of other sessions."""
        kind, _, word = event.name.partition(".")
        if kind == "client" and event.client is not None:
            self.clients[event.client] = {"vanished": "away"}.get(word, "ready")
        if event.session is None or event.session != (self.session or event.session):
            return
        data = event.data
        if event.client is not None:
            reason = [data["reason"]] if kind == "model" and data.get("reason") else []
            for note in (*data.get("notes", ()), *reason):
                self.notes.setdefault(note, event.client)
        match kind, word:
            case "session", "queued":
                self.session, self.state = event.session, "queued"
            case "session", _:
                self.state = "running" if word == "started" else word
                self.reason = reason_text(data)
            case "round", "planned":
                self.session, self.state, self.reason = event.session, "running", ""
                at = self.round(event.round or 0)
                at.asked = data["clients"]
                at.counts = dict.fromkeys(_ANSWERS, 0)
            case "round", "committed":
                at = self.round(event.round or 0)
                at.seconds, at.counts = data["seconds"], dict(data["counts"])
            case "update", outcome if event.client is not None:
                at = self.round(event.round or 0)
                if at.seconds is None and outcome in at.counts:
                    at.counts[outcome] += 1
                self.clients[event.client] = outcome
                self.answered[event.client] = event.round or 0
            case "task", "progress" if event.client is not None:
                self.clients[event.client] = f"training {data['fraction']:.0%}"
            case "model", "validated" if event.client is not None:
                self._validated(event, data)

    def _validated(self, event: Event, data: Mapping[str, Any]) -> None:
        assert event.client is not None
        if data["scope"] == "test":
            scores = {name: float(value) for name, value in data["metrics"].items() if is_scalar(value)}
            self.round(event.round or 0).scores = scores
            self.clients[event.client] = f"scored model {event.round}"
        elif self.answered.get(event.client, 0) <= (event.round or 0) < self.rounds_wanted:
            self.clients[event.client] = "training"

    def summary(self) -> str:
        """Returns the number of clients for each activity, in one line."""
        counts: dict[str, int] = {}
        for word in self.clients.values():
            kind = word.split()[0]
            counts[kind] = counts.get(kind, 0) + 1
        return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def reason_text(data: Mapping[str, Any]) -> str:
    """Returns an event's reason and its deadline in local time: `waiting for clients, 2 of 3, until 14:05`."""
    reason, until = str(data.get("reason", "")), data.get("waiting_until")
    return reason if until is None else f"{reason}, until {datetime.fromtimestamp(until):%H:%M}"


def scores_text(scores: Mapping[str, float]) -> str:
    """Returns at most three scores, accuracy first: `accuracy 0.9610, loss 0.1270`."""
    names = sorted(scores, key=lambda name: (name not in NEAR, NEAR.index(name) if name in NEAR else 0, name))
    return ", ".join(f"{name} {_number(scores[name])}" for name in names[:3])


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.1f}"
