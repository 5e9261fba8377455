"""A session that another version left open ends with the reason, and holds up no other one."""

from __future__ import annotations

from typing import Any

from fedmq.runtime.effects import PublishEvent
from fedmq_reducer.members.membership import Membership
from fedmq_reducer.operations import OpenSeed
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.queue import Sessions
from fedmq_reducer.snapshot import SessionSnapshot, Snapshot
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import SessionEnd
from fedmq_schemas.topology import Topology

from .records import round_record, session_changes, session_record


def _snapshot(name: str, position: int, state: str, policy: dict[str, Any], rounds: int = 0) -> SessionSnapshot:
    record = session_record(state, session=name, position=position, policy=policy, started_at=None)
    return SessionSnapshot(record, tuple(round_record(number, name) for number in range(1, rounds + 1)))


def test_it_fails_with_its_last_model_and_the_next_one_begins() -> None:
    old = _snapshot("old", 0, "running", {"rounds": 9, "from_the_future": True}, rounds=2)
    sound = _snapshot("sound", 1, "queued", Policy(rounds=1).model_dump(mode="json"))
    context = ReducerContext(Membership(Topology("a"), presence=10.0), 3)

    Sessions(context).restore(Snapshot((old, sound), next_position=2))

    effects = context.take_effects()

    [end] = [change for change in session_changes(effects) if isinstance(change, SessionEnd)]
    assert (end.state, end.round, end.model) == ("failed", 2, "old-0002")
    assert "does not read its policy (unknown key 'from_the_future'" in end.reason
    assert [effect.name for effect in effects if isinstance(effect, PublishEvent)] == ["session.failed"]
    assert [effect.session for effect in effects if isinstance(effect, OpenSeed)] == ["sound"]
