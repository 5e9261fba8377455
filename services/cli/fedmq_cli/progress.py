"""The state of one running session as its views show it, made from events. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fedmq.metrics import Summary, summarize
from fedmq_cli.output import part_of
from fedmq_schemas.messages import Event
from fedmq_schemas.records import ENDED

NEAR = ("accuracy", "loss")
TROUBLE = ("rejected", "failed", "abstained", "absent", "discarded")
_ANSWERS = ("accepted", "rejected", "discarded", "abstained", "failed", "absent")


@dataclass(slots=True)
class Scores:
    """The validations of one model: `len` of them. Fewer values are in a mean if a client's metric is no finite number.

    The summary is computed once after a change: a live view asks for it often.
    """

    _found: dict[str, tuple[int | None, Mapping[str, Any]]] = field(default_factory=dict)
    _changes: int = 0
    _summary: tuple[int, Summary] = (0, {})

    def add(self, client: str, weight: int | None, metrics: Mapping[str, Any]) -> None:
        """Adds a client's metrics, or replaces them. `weight` is the number of examples, None if it is not known."""
        self._found[client] = weight, metrics
        self._changes += 1

    def __len__(self) -> int:
        return len(self._found)

    @property
    def summary(self) -> Summary:
        """The summary of each metric over the clients so far."""
        changes = self._changes  # another thread may add meanwhile
        if self._summary[0] != changes:
            self._summary = changes, summarize(self._found.copy().values())
        return self._summary[1]


@dataclass(slots=True)
class Round:
    """One round.

    - `seconds`: None until its commit. Of a round that was resumed (`is_resumed`) the time since then.
    - `training`: the summary of each metric that the trainers reported with their updates; empty until the commit.
    - `own`: validations of the model that it made, by clients on their own data.
    - `tests`: validations of this model by evaluators, on a test set.
    """

    number: int
    asked: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_ANSWERS, 0))
    seconds: float | None = None
    is_resumed: bool = False
    training: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    own: Scores = field(default_factory=Scores)
    tests: Scores = field(default_factory=Scores)


@dataclass(slots=True)
class SessionProgress:
    """One session. `clients`: a word or two on what each client does; `answered`: the round of its last answer.

    `notes`: what results lack, and why a validation failed, each with the clients that it was received from.
    `rounds_before`: the number of rounds of a sandbox's earlier sessions, after which the views count on.
    """

    rounds_wanted: int
    session: str = ""
    state: str = "starting"
    reason: str = ""
    rounds: dict[int, Round] = field(default_factory=dict)
    clients: dict[str, str] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    notes: dict[str, dict[str, None]] = field(default_factory=dict)
    rounds_before: int = 0

    def shown(self, number: int) -> int:
        """Returns the number by which the views name a round of this session, or the model that it made."""
        return self.rounds_before + number

    @property
    def rounds_shown(self) -> int:
        """The number of rounds that the views name as the last one."""
        return self.rounds_before + self.rounds_wanted

    def note(self, text: str, source: str) -> None:
        """Adds a note, or one more client, or another source, to a known note."""
        self.notes.setdefault(text, {})[source] = None

    def round(self, number: int) -> Round:
        """Returns the round, a new one if no event has named it yet."""
        return self.rounds.setdefault(number, Round(number))

    def feed(self, event: Event) -> None:
        """Applies an event. Ignores events of other sessions."""
        kind, _, word = event.name.partition(".")
        if kind == "client" and event.client is not None:
            self.clients[event.client] = {"vanished": "away"}.get(word, "ready")
        self._leave_ended(event)
        if event.session is None or event.session != (self.session or event.session):
            return
        data = event.data
        if event.client is not None:
            reason = [data["reason"]] if kind == "model" and data.get("reason") else []
            for note in (*data.get("notes", ()), *reason):
                self.note(note, event.client)
        match kind, word:
            case "session", "queued":
                self.session, self.state = event.session, "queued"
                self.rounds_wanted = data.get("policy", {}).get("rounds", self.rounds_wanted)
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
                before = data.get("resumed_after", 0.0)
                at.seconds, at.is_resumed, at.counts = data["seconds"] - before, before > 0, dict(data["counts"])
                at.training = data.get("metrics", {})
                at.asked = sum(at.counts.values())  # the plan of a round that was resumed is not published again
            case "update", outcome if event.client is not None:
                self._answered(event, outcome)
            case "validation", outcome if event.client is not None:
                self.clients[event.client] = outcome
            case "task", "progress" if event.client is not None:
                self.clients[event.client] = f"training {data['fraction']:.0%}"
            case "model", "validated" if event.client is not None:
                self._validated(event, data)

    def validators(self, at: Round) -> int:
        """Returns how many clients were to validate a round's model, also those that failed or did not answer.

        They are those that the next round asked, of the last model those of its own round. Until these have answered, it is
        the number of those that have.
        """
        following = self.rounds.get(at.number + 1)
        asked = at.asked if following is None and self.state in ENDED else 0
        if following is not None and (following.seconds is not None or self.state in ENDED):
            asked = following.asked
        return max(len(at.own), asked)

    def _leave_ended(self, event: Event) -> None:
        """Forgets a session that has ended when a sandbox queues another one, for further rounds."""
        if event.name == "session.queued" and self.state in ENDED:
            committed = (number for number, at in self.rounds.items() if at.seconds is not None)
            self.rounds_before += max(committed, default=0)
            self.session, self.rounds, self.answered = "", {}, {}

    def _answered(self, event: Event, outcome: str) -> None:
        assert event.client is not None
        at = self.round(event.round or 0)
        if at.seconds is None and outcome in at.counts:
            at.counts[outcome] += 1
        self.clients[event.client] = outcome
        self.answered[event.client] = event.round or 0

    def _validated(self, event: Event, data: Mapping[str, Any]) -> None:
        assert event.client is not None
        at, is_test = self.round(event.round or 0), data["scope"] == "test"
        if data["metrics"]:
            (at.tests if is_test else at.own).add(event.client, data.get("weight"), data["metrics"])
        if is_test:
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


def scores_text(summary: Mapping[str, Mapping[str, float]], of: float) -> str:
    """Returns at most three means, accuracy first: `accuracy 0.9610, loss 0.1270 (3 of 4)` if one is of fewer than `of`."""
    names = sorted(summary, key=lambda name: (name not in NEAR, NEAR.index(name) if name in NEAR else 0, name))
    return ", ".join(f"{name} {_number(summary[name]['mean'])}{_part(summary[name], of)}" for name in names[:3])


def own_text(scores: Scores, of_all: int) -> str:
    """Returns the means of clients' own data, and of how many: `mse 0.5000 (own data of 3 of 4 clients)`; empty for none.

    `of_all`: the number of clients that were to validate the model.
    """
    summary = scores.summary
    if not summary:
        return ""
    most = int(max(each["n"] for each in summary.values()))
    of = f"{most} of {of_all}" if most < of_all else str(most)
    return f"{scores_text(summary, most)} (own data of {of} client{'s' if of_all > 1 else ''})"


def _part(summary: Mapping[str, float], of: float) -> str:
    part = part_of(summary.get("n", of), of)
    return f" ({part})" if part else ""


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.1f}"
