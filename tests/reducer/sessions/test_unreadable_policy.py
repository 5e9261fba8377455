"""A session that another version left open ends with the reason, and holds up no other one."""

from __future__ import annotations

from typing import Any

from fedmq.effects import Now, PublishEvent
from fedmq_reducer.assignment import Assignment
from fedmq_reducer.operations import Change, OpenSeed, SessionSnapshot, Snapshot
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.documents import session_document
from fedmq_reducer.sessions.queue import Sessions
from fedmq_reducer.sessions.session import Session
from fedmq_schemas.policy import Policy
from fedmq_schemas.topology import Topology

NOW = Now(10.0, 1000.0)


def _snapshot(name: str, position: int, state: str, policy: dict[str, Any], rounds: int = 0) -> SessionSnapshot:
    document = session_document(Session(name, Policy(), position, 1), NOW)
    committed = tuple(
        {"round": number, "model": {"key": f"models/{name}-{number:04d}", "size": 1, "sha256": "0" * 64}}
        for number in range(1, rounds + 1)
    )
    return SessionSnapshot(document | {"state": state, "policy": policy}, committed, (), (), {}, frozenset())


def test_it_fails_with_its_last_model_and_the_next_one_begins() -> None:
    old = _snapshot("old", 0, "running", {"rounds": 9, "from_the_future": True}, rounds=2)
    sound = _snapshot("sound", 1, "queued", Policy(rounds=1).model_dump(mode="json"))
    context = ReducerContext(Assignment(Topology("a"), presence=10.0), 3)

    Sessions(context).restore(Snapshot((old, sound), (), (), (), 2))

    effects = context.take_effects()

    [end] = [effect.fields for effect in effects if isinstance(effect, Change) and "ended_at" in effect.fields]
    assert (end["state"], end["round"], end["model"]) == ("failed", 2, "old-0002")
    assert "does not read its policy (unknown key 'from_the_future'" in end["reason"]
    assert [effect.name for effect in effects if isinstance(effect, PublishEvent)] == ["session.failed"]
    assert [effect.session for effect in effects if isinstance(effect, OpenSeed)] == ["sound"]
