"""A reducer that holds the lease, with one session: what happens to it, in the words of the protocol. The aggregation rule
`median` does not compose over combiners."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from fedmq.runtime.effects import Effect, Perform, Resubscribe
from fedmq_reducer.core import ReducerCore
from fedmq_reducer.members.membership import Membership
from fedmq_reducer.operations import (
    Acquire,
    Aggregate,
    Aggregated,
    OpenedSeed,
    OpenSeed,
    RecordAttempt,
    RecordRound,
    RecordSession,
    Release,
    Renew,
)
from fedmq_reducer.snapshot import Load, SessionSnapshot, Snapshot
from fedmq_schemas.messages import (
    CombinerHello,
    CombinerPresence,
    OutcomeReason,
    Partial,
    Plan,
    PlanKey,
    Start,
    Stop,
    Validation,
)
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import ClientRecord, CombinerRecord
from fedmq_schemas.topology import Topology
from support.cores import Driver, all_of, blob, bodies, one

P = TypeVar("P", bound=Perform)

TERM = 7
SEED = OpenedSeed("seed", blob("models/seed"), (0,))


def partial(
    part: int = 0,
    number: int = 1,
    attempt: int = 1,
    accepted: int = 1,
    counts: dict[str, int] | None = None,
    reasons: Sequence[OutcomeReason] = (),
) -> Partial:
    """A combiner's answer to a plan of session `s`."""
    return Partial(
        plan=PlanKey(session="s", round=number, attempt=attempt, part=part),
        epoch=TERM,
        sum=blob("sum"),
        ledger=blob(f"ledger-{part}"),
        total_weight=accepted,
        counts=counts or {"accepted": accepted},
        reasons=tuple(reasons),
    )


def aggregated(number: int) -> Aggregated:
    """The model of round `number`, as the aggregation reports it."""
    model = blob(f"models/s-{number:04d}")
    return Aggregated(model, None, blob("ledger"), 2, {"accepted": 2}, {}, (0,), {"down": 1, "up": 1})


def client_record(name: str, combiner: str) -> ClientRecord:
    """A client that is present; one called `evaluator` only validates."""
    tasks = ("validate",) if name == "evaluator" else ("train", "validate")
    return ClientRecord(
        client=name, labels={}, tasks=tasks, weight=1, combiner=combiner, state="present", last_seen=0.0
    )


class SessionDriver(Driver):
    """`homes`: combiner → its clients, all present; a client called `evaluator` only validates. The policy has the
    defaults of a test: no validation, and a random seed."""

    def __init__(self, homes: dict[str, list[str]], snapshot: Snapshot | None = None, **policy: Any) -> None:
        self.reducer = ReducerCore(
            Membership(Topology("a"), presence=10.0), presence=10.0, single_combiner_rules=frozenset({"median"})
        )
        super().__init__(self.reducer)
        self.policy = Policy.model_validate({"validation": "none", "random_seed": 1, **policy})
        self.start()
        found = snapshot or Snapshot()
        pairs = [(combiner, name) for combiner, names in homes.items() for name in names]
        self.snapshot = dataclasses.replace(
            found,
            clients=tuple(client_record(name, combiner) for combiner, name in pairs),
            combiners=tuple(CombinerRecord(combiner=each, state="present", last_seen=0.0) for each in homes),
        )
        self.done(self.last(Acquire), TERM)
        self.loaded = self.done(self.last(Load), self.snapshot)

    def check(self) -> None:
        """As for every core; and each session under way waits for an answer, or has a deadline of its own. The timers of the
        lease and of presence always run, so they prove nothing."""
        super().check()
        asked = [effect for effect in self.unanswered if not isinstance(effect, Acquire | Renew)]
        deadlines = {key.partition(":")[2] for key in self.timers}
        for name, where in self.reducer.waits().items():
            assert asked or name in deadlines, f"session {name} waits without a deadline: {where}"
        if not asked and not self.reducer.waits():
            assert not self.unsettled, f"{self.unsettled} wait for nothing"

    def last(self, kind: type[P]) -> P:
        """Returns the newest unanswered effect of this kind."""
        return [effect for effect in self.unanswered if isinstance(effect, kind)][-1]

    # -- the steps of a session ---------------------------------------------------------------------------------------

    def queue(self, name: str = "s") -> list[Effect]:
        """Somebody starts the session; returns the effects once it is recorded."""
        effects = self.receive(Start(policy=self.policy), "operator", message_id=name)
        return self.done(one(effects, RecordSession))

    def open(self) -> list[Effect]:
        """The session is queued and its seed is opened; returns the effects that follow."""
        return self.done(one(self.queue(), OpenSeed), SEED)

    def plan(self) -> list[Plan]:
        """The first round is drawn; returns its plans."""
        return bodies(self.done(one(self.open(), RecordAttempt)), Plan)

    def answer(self, number: int = 1) -> Aggregate:
        """Each plan of the open attempt is answered; returns the request for the round's model."""
        current = self.reducer.sessions.current
        assert current is not None and current.attempt is not None
        effects: list[Effect] = []
        for part in [part for part in current.attempt.parts if part.is_open]:
            effects = self.receive(partial(part.key.part, number, part.key.attempt), part.combiner)
        return one(effects, Aggregate)

    def commit(self, number: int = 1) -> list[Effect]:
        """Each plan is answered and the round is recorded; returns the effects that follow."""
        return self.done(one(self.done(self.answer(number), aggregated(number)), RecordRound))

    def next_plans(self, effects: list[Effect]) -> list[Plan]:
        """The next draw is among `effects`; returns its plans."""
        return bodies(self.done(one(effects, RecordAttempt)), Plan)

    def after_pause(self, effects: list[Effect]) -> list[Effect]:
        """An attempt has failed at once; returns its effects, and those at the end of the pause before the next one."""
        return [*effects, *self.fire("retry:s")]

    def start_over(self, *sessions: SessionSnapshot) -> list[Effect]:
        """An error has come: the reducer gives the lease up, and takes it again with these sessions in the records."""
        gave_up = self.fire("lease")
        assert one(gave_up, Release).term == TERM and all_of(gave_up, Resubscribe)
        self.done(one(self.fire("lease"), Acquire), TERM)
        return self.done(self.last(Load), dataclasses.replace(self.snapshot, sessions=sessions))

    # -- what may come between ----------------------------------------------------------------------------------------

    def stop(self, when: Literal["now", "after_round"] = "now") -> list[Effect]:
        return self.receive(Stop(session="s", when=when), "operator")

    def hello(self, combiner: str) -> list[Effect]:
        return self.receive(CombinerHello(), combiner)

    def leave(self, combiner: str) -> list[Effect]:
        """A combiner says goodbye."""
        return self.receive(CombinerPresence(clients=0, leaving=True), combiner)

    def validate(
        self,
        client: str,
        model: str,
        number: int,
        metrics: dict[str, Any],
        action: Literal["train", "validate"] = "validate",
    ) -> list[Effect]:
        """A client reports the metrics of a model, the one of round `number`."""
        plan = PlanKey(session="s", round=number if action == "validate" else number + 1, action=action)
        scope: Literal["test", "client"] = "test" if client == "evaluator" else "client"
        return self.receive(
            Validation(plan=plan, model=f"models/{model}", scope=scope, weight=1, metrics=metrics), client
        )
