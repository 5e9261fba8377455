"""A reducer asks for its lease one question at a time, however long the records are away."""

from __future__ import annotations

from fedmq.effects import Done, Failed, Fired, Moment, Started
from fedmq.errors import ConfigError
from fedmq_reducer.assignment import Assignment
from fedmq_reducer.core import ReducerCore
from fedmq_reducer.operations import Acquire
from fedmq_schemas.topology import Topology

NOW = Moment(0.0, 0.0)


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
