"""The messages that a combiner receives, and a driver for its core that knows the combiner's own invariants.

`Combiner.conclude` holds after whatever a test did, and the fixture `combiner` calls it at teardown:

1. Once all deadlines have passed and all questions are answered, no message is left unsettled.
2. A ledger has one entry for each client of its plan. It is the last outcome that was published for the client, or the
   one that a checkpoint held. At most one update of a client is accepted, and nothing after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedmq.errors import FedMQError
from fedmq.runtime.effects import CoreEvent, Done, Effect, PublishEvent, Reconnected, Resubscribe
from fedmq_combiner.core import CombinerCore
from fedmq_combiner.operations import Close, Closed, Fold, Folded, Open, Opened
from fedmq_schemas.keys import update_blob
from fedmq_schemas.messages import BlobRef, Decline, Plan, PlanKey, TaskName, Update, VoidPlan, Welcome
from fedmq_schemas.records import LedgerEntry
from support.cores import Driver, blob, one

MODEL = blob("models/m0")
EXPONENTS = (-40, -40)
MOST_BYTES = 1000
"""No valid update is larger."""
REDUCER = "reducer"


def key(round_number: int = 1, *, attempt: int = 1, action: TaskName = "train", session: str = "s") -> PlanKey:
    return PlanKey(session=session, round=round_number, attempt=attempt, action=action)


def plan(which: PlanKey | None = None, *clients: str, epoch: int = 1, timeout: float = 60.0) -> Plan:
    """A plan for these clients, by default c1 and c2."""
    return Plan(
        plan=which or key(),
        epoch=epoch,
        reply_to=REDUCER,
        clients=clients or ("c1", "c2"),
        model=MODEL,
        exponents=EXPONENTS,
        timeout=timeout,
        rounds=9,
        random_seed=7,
    )


def upload(client: str, name: str = "a", round_number: int = 1) -> BlobRef:
    """The blob of an update; another `name` is another blob with another hash."""
    return BlobRef(key=update_blob("s", round_number, client, name[0] * 64), size=1, sha256=name[0] * 64)


def update(client: str, name: str = "a", which: PlanKey | None = None, *, model: str = MODEL.key) -> Update:
    which = which or key()
    return Update(plan=which, model=model, blob=upload(client, name, which.round), weight=3, seconds={"train": 2.0})


def decline(outcome: str = "abstained", which: PlanKey | None = None) -> Decline:
    return Decline.model_validate({"plan": which or key(), "outcome": outcome, "reason": "no data"})


def welcome(epoch: int = 1) -> Welcome:
    return Welcome(epoch=epoch, presence=10.0)


def void(*plans: PlanKey, session: str | None = None, epoch: int = 1) -> VoidPlan:
    return VoidPlan(epoch=epoch, plans=plans, session=session)


def discarded(effects: Sequence[Effect]) -> list[tuple[str | None, str]]:
    """Client and reason of each discarded answer."""
    found = [each for each in effects if isinstance(each, PublishEvent) and each.name == "update.discarded"]
    return [(each.client, each.data["reason"]) for each in found]


def outcomes(effects: Sequence[Effect]) -> list[tuple[str, str | None]]:
    """Outcome and client of each task that got its outcome."""
    found = [each for each in effects if isinstance(each, PublishEvent) and each.name.startswith("update.")]
    return [(each.name.removeprefix("update."), each.client) for each in found if each.name != "update.discarded"]


class Combiner(Driver):
    """A combiner's core. `outcomes_of`: what has been published of each plan's tasks since the last hello, by client."""

    def __init__(self, *, hold_at_most: int = 5_000, name: str = "k1", binds_uploads: bool = True) -> None:
        self.binds_uploads = binds_uploads
        self.decisions = CombinerCore(name, hold_at_most=hold_at_most)
        super().__init__(self.decisions)
        self.outcomes_of: dict[tuple[str | None, int | None], dict[str, list[str]]] = {}

    # -- steps that most tests take ---------------------------------------------------------------------------------

    def register(self) -> None:
        """The combiner has sent its hello, and a reducer has sent all open plans (none)."""
        self.start()
        self.receive(welcome(), REDUCER)

    def open(self, message: Plan, *saved: LedgerEntry) -> list[Effect]:
        """The plan is received and opened; `saved` are the outcomes of a checkpoint."""
        asked = one(self.receive(message, REDUCER), Open)
        return self.opened(asked, saved)

    def opened(self, asked: Open, saved: Iterable[LedgerEntry] = ()) -> list[Effect]:
        entries = tuple(saved)
        round_of = self.outcomes_of.setdefault((asked.plan.plan.session, asked.plan.plan.round), {})
        round_of.clear()
        round_of.update({entry.client: [entry.outcome] for entry in entries})
        return self.done(asked, Opened(asked.plan.clients, entries, MOST_BYTES, self.binds_uploads))

    def not_opened(self, asked: Open, error: FedMQError) -> list[Effect]:
        round_of = self.outcomes_of.setdefault((asked.plan.plan.session, asked.plan.plan.round), {})
        round_of.update({client: ["failed"] for client in asked.plan.clients})
        return self.failed(asked, error)

    def folded(self, fold: Fold, norm: float = 0.5) -> list[Effect]:
        blob = fold.blob.model_copy(update={"key": update_blob("s", 1, fold.client, fold.blob.sha256)})
        return self.done(fold, Folded(norm, blob))

    def accept(self, client: str, name: str = "a", which: PlanKey | None = None) -> list[Effect]:
        """An update is received and folded."""
        return self.folded(one(self.receive(update(client, name, which), client), Fold))

    def closed(self, close: Close) -> list[Effect]:
        weight = close.ledger.total_weight
        return self.done(close, Closed(blob("updates/s/partial") if weight else None, blob("updates/s/ledger"), weight))

    # -- invariants -------------------------------------------------------------------------------------------------

    def handle(self, event: CoreEvent) -> list[Effect]:
        if isinstance(event, Reconnected):
            self.outcomes_of.clear()
        if isinstance(event, Done) and isinstance(event.effect, Close):
            key = event.effect.plan.plan
            for entry in event.result.rejected:  # the one way in which an accepted update is rejected
                self.outcomes_of[key.session, key.round][entry.client].clear()
        effects = super().handle(event)
        for effect in effects:
            if isinstance(effect, Resubscribe):
                self.outcomes_of.clear()
            elif isinstance(effect, PublishEvent) and outcomes([effect]):
                self._note_outcome(effect)
            elif isinstance(effect, Close):
                self._compare(effect)
        return effects

    def conclude(self) -> None:
        """Lets all deadlines pass, answers all questions, and fails if a message is then left unsettled."""
        self.check()
        if self.unsettled:
            self.receive(welcome(epoch=99), REDUCER)
        while True:
            due = [(at, name) for name, at in self.timers.items() if name.startswith(("deadline:", "save:"))]
            if self.unanswered:
                self._answer(self.unanswered[0])
            elif due:
                self.fire(min(due)[1])
            else:
                break
        assert not self.unsettled, f"{self.unsettled} are never settled"

    def _answer(self, question: Effect) -> None:
        match question:
            case Open() as asked:
                self.opened(asked)
            case Fold() as fold:
                self.folded(fold)
            case Close() as close:
                self.closed(close)
            case _:
                self.done(question)

    def _note_outcome(self, event: PublishEvent) -> None:
        assert event.client is not None
        known = self.outcomes_of.setdefault((event.session, event.round), {}).setdefault(event.client, [])
        assert "accepted" not in known, f"{event.client} has the outcome {event.name} after an accepted update"
        known.append(event.name.removeprefix("update."))

    def _compare(self, close: Close) -> None:
        published = self.outcomes_of[close.plan.plan.session, close.plan.plan.round]
        ledger = {entry.client: entry.outcome for entry in close.ledger.entries}
        assert len(ledger) == len(close.ledger.entries), "a client is in the ledger twice"
        assert ledger == {client: found[-1] for client, found in published.items()}
