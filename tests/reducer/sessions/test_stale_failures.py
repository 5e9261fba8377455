"""What an earlier lease asked for, and tried again all the while, fails long after it matters: nobody is hurt."""

from __future__ import annotations

from collections.abc import Sequence

from fedmq.effects import Done, Effect, Failed, Now, PublishEvent, Started
from fedmq.errors import NotFound
from fedmq_reducer.assignment import Assignment
from fedmq_reducer.core import ReducerCore
from fedmq_reducer.operations import Acquire, Aggregate, OpenSeed, SessionSnapshot, Snapshot
from fedmq_reducer.sessions.recording import session_record
from fedmq_reducer.sessions.session import Session
from fedmq_schemas.messages import BlobRef
from fedmq_schemas.policy import Policy, Strategy
from fedmq_schemas.topology import Topology

NOW = Now(10.0, 1000.0)
MODEL = BlobRef(key="models/m", size=1, sha256="0" * 64)
GONE = NotFound("there is no blob updates/s/000001/ledger")


def _aggregate(round_number: int) -> Aggregate:
    return Aggregate("s", round_number, 1, MODEL, None, (), Strategy(), ())


def _core(state: str) -> tuple[ReducerCore, Sequence[Effect]]:
    """At the head of one session, `state` by its record: nothing of it is made, and no client is there."""
    record = session_record(Session("s", Policy(), 0, 1), NOW).model_copy(update={"state": state})
    core = ReducerCore(Assignment(Topology("a"), presence=1.0), presence=1.0)
    core.handle(Started(), NOW)
    [load] = core.handle(Done(Acquire(), 7), NOW)
    found = SessionSnapshot(record)
    return core, core.handle(Done(load, Snapshot((found,), next_position=1)), NOW)


def test_an_old_aggregation_ends_no_session_that_is_elsewhere() -> None:
    core, _ = _core("queued")
    assert not core.handle(Failed(_aggregate(1), GONE), NOW)


def test_a_seed_that_an_earlier_lease_asked_for_ends_no_session() -> None:
    core, _ = _core("queued")
    assert not core.handle(Failed(OpenSeed("s", None, Strategy(), (), Policy().tensors), GONE), NOW)


def test_a_seed_that_is_waited_for_ends_the_session_with_the_reason() -> None:
    core, effects = _core("queued")
    [opening] = [effect for effect in effects if isinstance(effect, OpenSeed)]
    [event] = [each for each in core.handle(Failed(opening, GONE), NOW) if isinstance(each, PublishEvent)]
    assert (event.name, event.data["reason"]) == ("session.failed", GONE.reason)
