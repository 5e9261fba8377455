"""A reducer asks for its lease one question at a time, however long the records are away."""

from __future__ import annotations

from fedmq.effects import Ack, Done, Failed, Fired, Now, Publish, Received, Started
from fedmq.errors import ConfigError
from fedmq_reducer.assignment import Assignment
from fedmq_reducer.core import ReducerCore
from fedmq_reducer.operations import Acquire, CheckLease, Snapshot
from fedmq_schemas.messages import CombinerHello, Envelope, Welcome
from fedmq_schemas.topology import Topology

NOW = Now(0.0, 0.0)


def questions(core: ReducerCore, event: Started | Fired | Done | Failed) -> int:
    return sum(isinstance(effect, Acquire) for effect in core.handle(event, NOW))


def test_no_second_question_is_asked_while_the_first_has_no_answer() -> None:
    core = ReducerCore(Assignment(Topology("a"), presence=1.0), presence=1.0)

    assert questions(core, Started()) == 1
    assert [questions(core, Fired("lease")) for _ in range(30)] == [0] * 30
    core.handle(Done(Acquire(), None), NOW)
    assert questions(core, Fired("lease")) == 1
    core.handle(Failed(Acquire(), ConfigError("no such account")), NOW)
    assert questions(core, Fired("lease")) == 1


def test_a_hello_is_answered_while_the_lease_is_held_and_not_after_it() -> None:
    core = ReducerCore(Assignment(Topology("a"), presence=1.0), presence=1.0)
    core.handle(Started(), NOW)
    [load] = core.handle(Done(Acquire(), 7), NOW)
    core.handle(Done(load, Snapshot((), (), (), (), 0)), NOW)
    hello = CombinerHello()
    envelope = Envelope(kind=hello.kind, id="m1", alliance="a", sender="k1", sent_at=0.0)

    effects = list(core.handle(Received(hello, envelope, 1), NOW))

    welcome = next(e for e in effects if isinstance(e, Publish) and isinstance(e.body, Welcome))
    assert effects.index(CheckLease(7)) < effects.index(welcome) < effects.index(Ack((1,)))
