"""One session of an alliance: its state, its tables, and its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedmq.errors import NotFound, Refused, Transient
from fedmq_schemas import keys
from fedmq_schemas.records import ENDED
from fedmq_sdk.rest import quoted
from fedmq_sdk.tables import Row, Table, metrics_row

if TYPE_CHECKING:
    from fedmq_sdk.alliance import Alliance

PATIENCE = 60.0
"""Seconds for which a lost event stream is opened again."""
UNSEEN = 15.0
"""Seconds for which a session that was started may have no record yet."""
PAUSE = 0.5
"""Seconds between two requests for a session's state."""
ENDINGS = frozenset(f"session.{state}" for state in (*ENDED, "refused"))


@dataclass(frozen=True, slots=True)
class SessionHandle:
    """One session of an alliance. Each property sends a request."""

    alliance: Alliance
    id: str

    def refresh(self) -> Row:
        """Returns the session's record: state, what it waits for, why it ended, policy, rounds committed, newest model.

        A start is answered before the reducer has recorded it, so a missing record is waited for some seconds.
        """
        ends = time.monotonic() + UNSEEN
        while True:
            try:
                return self.alliance._rest.json("GET", f"/sessions/{quoted(self.id)}")
            except (NotFound, Transient):
                if time.monotonic() > ends:
                    raise
                time.sleep(PAUSE / 5)

    @property
    def state(self) -> str:
        """The session's state."""
        return str(self.refresh()["state"])

    @property
    def model(self) -> str | None:
        """The id of the session's newest model."""
        found: str | None = self.refresh()["model"]
        return found

    def wait(self, timeout: float | None = None) -> Row:
        """Waits for the session's end and returns its record.

        Raises Refused if the session failed, with a traceback as a note, and Transient after `timeout` seconds.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        pause = PAUSE / 16
        while (document := self.refresh())["state"] not in ENDED:
            if ends is not None and time.monotonic() > ends:
                raise Transient(f"session {self.id} is still {document['state']} after {timeout:g} s")
            time.sleep(pause)
            pause = min(2 * pause, PAUSE)  # a short session's end is seen at once, a long one's costs few requests
        if document["state"] == "failed":
            error = Refused(f"session {self.id} failed: {document['reason']}")
            failures = (each for each in self.alliance.events(self.id) if each["name"] == "update.failed")
            error.add_note(next((each["data"].get("traceback", "") for each in failures), ""))
            raise error
        return document

    def follow(self, patience: float = PATIENCE) -> Iterator[Row]:
        """Yields the session's events from its start, as they happen, until it has ended."""
        self.refresh()
        for event in self.alliance.events(self.id, follow=True, patience=patience):
            yield event
            if event["name"] in ENDINGS:
                return

    def stop(self, *, after_round: bool = False) -> str:
        """Stops the session now, or after its open round. Returns the state in which it was."""
        when = "after_round" if after_round else "now"
        return str(self.alliance._rest.json("POST", f"/sessions/{quoted(self.id)}/stop", {"when": when})["state"])

    def rounds(self) -> Table:
        """Returns the committed rounds; the count of each outcome is a column."""
        found = self.alliance._rest.items(f"/sessions/{quoted(self.id)}/rounds", {}, None)
        return Table({**row, **row["counts"], "model": keys.model_id(row["model"]["key"])} for row in found)

    def metrics(self) -> Table:
        """Returns one row a model: its round, and each metric's mean in this session.

        `test/…` is an evaluator's, on a test set. `training/…` is what the trainers reported with the updates of the round
        that made the model. All others are of clients' own data, which they may have trained on.
        `NAME n` is the number of values in the mean: a client whose value is missing, or no finite number, is not counted.
        The spread over clients is in the columns `NAME min`, `NAME median` and `NAME max`. Round 0 is the model from
        which the session started.
        """
        self.refresh()
        found = self.alliance._rest.items(f"/sessions/{quoted(self.id)}/metrics", {}, None)
        trained = {each["round"]: each["metrics"] for each in self.rounds()}
        return Table(metrics_row(model, trained.get(model["round"], {})) for model in found)

    def without_metrics(self) -> Row:
        """Returns how many validations there are, `asked`, and in `reasons` why some have no metrics, most frequent first.

        Each reason has `reason`, `place` in the trainer's code, `count`, `clients`, and the newest `round` of such a model,
        and the `first_round`.
        """
        return self._causes("without_metrics")

    def not_accepted(self) -> Row:
        """Returns how many updates the committed rounds asked for, `asked`, and in `reasons` why some were not accepted.

        Each reason has what `without_metrics` returns of one, and the `outcome` of these updates.
        """
        return self._causes("not_accepted")

    def _causes(self, name: str) -> Row:
        try:
            return self.alliance._rest.json("GET", f"/sessions/{quoted(self.id)}/{name}")
        except NotFound:
            self.refresh()
            return {"asked": 0, "reasons": []}  # a reducer of release 0.2 has no such page

    def events(self) -> Table:
        """Returns all recorded events of the session, oldest first."""
        return self.alliance._rest.items("/events", {"session": self.id, "oldest_first": "true"}, None)

    def why(self) -> Table:
        """Returns for each client of the alliance its part in the newest round, or the reason why it has none."""
        return self.alliance._rest.items(f"/sessions/{quoted(self.id)}/clients", {}, None)

    def toml(self) -> str:
        """Returns the session's policy as a session file."""
        return self.alliance._rest.content(f"/sessions/{quoted(self.id)}/policy.toml").decode()
