"""A stop that meets a round on its way into the records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import pytest

from fedmq.effects import Ack, Effect, Now, Received
from fedmq_reducer.assignment import Assignment, Client
from fedmq_reducer.operations import Aggregate, Aggregated, Change, Insert, OpenedSeed, OpenSeed
from fedmq_reducer.planning import Desk
from fedmq_reducer.sessions import Sessions
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef, Body, Envelope, Partial, PlanKey, Start, Stop
from fedmq_schemas.policy import Policy
from fedmq_schemas.topology import Topology

E = TypeVar("E", bound=Effect)
NOW = Now(10.0, 1000.0)


def _blob(name: str) -> BlobRef:
    return BlobRef(key=name, size=1, sha256="0" * 64)


def _one(effects: Sequence[Effect], kind: type[E]) -> E:
    [found] = [effect for effect in effects if isinstance(effect, kind)]
    return found


def _received(body: Body, sender: str, tag: int) -> Received:
    return Received(body, Envelope(kind=body.kind, id=f"m{tag}", alliance="a", sender=sender, sent_at=0.0), tag)


class Table:
    """One client's session whose round 1 is with the record store, and not answered yet."""

    def __init__(self, rounds: int) -> None:
        assignment = Assignment(Topology("a"), presence=10.0)
        assignment.clients["c1"] = Client("c1", {}, ("train",), 1, None, "", "k1", None, present=True)
        self.sessions = Sessions(Desk(assignment, 1))
        policy = Policy(rounds=rounds, validation="none", random_seed=1)
        self.sessions.start(_received(Start(policy=policy), "somebody", 1), "s", policy, NOW)
        opening = _one(self.sessions.started("s", None, NOW), OpenSeed)
        drawn = self.sessions.seed_opened(opening, OpenedSeed("seed", _blob("models/seed"), (0,)), NOW)
        self.sessions.attempt_recorded(_one(drawn, Insert).document, None, NOW)
        partial = Partial(
            plan=PlanKey(session="s", round=1, attempt=1), epoch=1, sum=_blob("updates/s/p"), ledger=_blob("updates/s/l"),
            total_weight=1, counts={"accepted": 1},
        )  # fmt: skip
        aggregate = _one(self.sessions.partial(_received(partial, "k1", 2), partial, NOW), Aggregate)
        result = Aggregated(_blob("models/s-0001"), None, _blob("updates/s/l"), 1, {"accepted": 1}, {}, (0,), {})
        self.round = _one(self.sessions.aggregated(aggregate, result, NOW), Insert)

    def stop(self, when: Literal["now", "after_round"]) -> Sequence[Effect]:
        body = Stop(session="s", when=when)
        return self.sessions.stop(_received(body, "operator", 3), body, NOW)

    def committed(self) -> list[dict[str, object]]:
        effects = self.sessions.round_recorded(self.round.document, None, NOW)
        return [dict(effect.fields) for effect in effects if isinstance(effect, Change) and "ended_at" in effect.fields]


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_session_ends_with_that_round_and_says_so(rounds: int) -> None:
    table = Table(rounds)
    effects = table.stop("now")
    assert _one(effects, Change).fields == {"stop_after_round": True}
    assert _one(effects, Change).table == tables.SESSIONS
    assert effects[-1] == Ack((3,))
    [end] = table.committed()
    assert (end["state"], end["reason"]) == ("stopped", "stopped by operator")
    assert (end["round"], end["model"]) == (1, "s-0001")


def test_after_the_round_is_the_same_but_for_the_reason() -> None:
    table = Table(3)
    table.stop("after_round")
    [end] = table.committed()
    assert (end["state"], end["reason"], end["round"]) == ("stopped", "stopped after the round", 1)
