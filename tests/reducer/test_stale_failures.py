"""What an earlier reign asked for, and tried again all the while, fails long after it matters: nobody is hurt."""

from __future__ import annotations

from fedmq.effects import Done, Failed, Now, PublishEvent, Started
from fedmq.errors import NotFound
from fedmq_reducer.assignment import Assignment
from fedmq_reducer.core import ReducerCore
from fedmq_reducer.documents import session_document
from fedmq_reducer.operations import Acquire, Aggregate, Load, OpenSeed, SessionSnapshot, Snapshot
from fedmq_reducer.session import Session
from fedmq_schemas.messages import BlobRef
from fedmq_schemas.policy import Policy, Strategy
from fedmq_schemas.topology import Topology

NOW = Now(10.0, 1000.0)
MODEL = BlobRef(key="models/m", size=1, sha256="0" * 64)
GONE = NotFound("there is no blob updates/s/000001/ledger")


def _aggregate(round_number: int) -> Aggregate:
    return Aggregate("s", round_number, 1, MODEL, None, (), Strategy(), ())


def _core(state: str) -> ReducerCore:
    """At the head of one session, `state` by its record: nothing of it is made, and no client is there."""
    document = session_document(Session("s", Policy(), 0, 1), NOW) | {"state": state}
    core = ReducerCore(Assignment(Topology("a"), presence=1.0), presence=1.0)
    core.handle(Started(), NOW)
    core.handle(Done(Acquire(), 7), NOW)
    found = SessionSnapshot(document, (), (), (), {}, frozenset())
    core.handle(Done(Load(), Snapshot((found,), (), (), (), 1)), NOW)
    return core


def test_an_old_aggregation_ends_no_session_that_is_elsewhere() -> None:
    assert not _core("queued").handle(Failed(_aggregate(1), GONE), NOW)


def test_a_seed_that_is_waited_for_ends_the_session_with_the_reason() -> None:
    opening = OpenSeed("s", None, Strategy(), (), Policy().tensors)
    effects = _core("queued").handle(Failed(opening, GONE), NOW)
    [told] = [effect for effect in effects if isinstance(effect, PublishEvent)]
    assert (told.name, told.data["reason"]) == ("session.failed", GONE.reason)
