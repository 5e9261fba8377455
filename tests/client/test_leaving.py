"""A client that is asked to end begins nothing new, sends what it has finished, and then says goodbye."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedmq.effects import Done, Drained, Effect, Failed, Now, Publish, Received, Started, Stopping
from fedmq.errors import Refused
from fedmq_client.core import ClientCore, State
from fedmq_client.operations import Deliver, Finished, Work, Worked, task_key
from fedmq_schemas.messages import Attach, BlobRef, Body, ClientPresence, Envelope, Grant, PlanKey, Task, Update

NOW = Now(0.0, 0.0)
MODEL = BlobRef(key="models/m", size=10, sha256="0" * 64)
PLAN = PlanKey(session="s1", round=1)


def client(*, attached: bool = True) -> ClientCore:
    core = ClientCore("c1", Attach())
    core.handle(Started(), NOW)
    if attached:
        receive(core, Grant(combiner="k1", ordinal=0, count=1, presence=10.0))
    return core


def receive(core: ClientCore, body: Body) -> Sequence[Effect]:
    envelope = Envelope(kind=body.kind, id="i", alliance="a", sender="k1", sent_at=0.0)
    return core.handle(Received(body, envelope, 1), NOW)


def task(number: int = 1) -> Task:
    plan = PLAN.model_copy(update={"round": number})
    return Task(plan=plan, client="c1", combiner="k1", model=MODEL, timeout=60.0, rounds=3, seed=1)


def finish(core: ClientCore) -> Deliver:
    finished = Finished(task_key(PLAN), "done", examples=5, update=b"delta")
    [delivery] = [each for each in core.handle(Worked(finished), NOW) if isinstance(each, Deliver)]
    return delivery


def bodies(effects: Sequence[Effect]) -> list[Any]:
    return [effect.body for effect in effects if isinstance(effect, Publish)]


def has_left(effects: Sequence[Effect]) -> bool:
    return any(isinstance(effect, Drained) for effect in effects)


def test_an_idle_client_says_goodbye_at_once() -> None:
    effects = client().handle(Stopping(), NOW)

    assert bodies(effects) == [ClientPresence(leaving=True)]
    assert has_left(effects)


def test_a_client_that_was_never_attached_just_leaves() -> None:
    effects = client(attached=False).handle(Stopping(), NOW)

    assert bodies(effects) == []
    assert has_left(effects)


def test_work_under_way_is_finished_uploaded_and_sent_before_the_goodbye() -> None:
    core = client()
    receive(core, task())

    assert core.handle(Stopping(), NOW) == []
    delivery = finish(core)
    effects = core.handle(Done(delivery, MODEL), NOW)

    assert [type(body) for body in bodies(effects)] == [Update, ClientPresence]
    assert has_left(effects)
    assert core.state is State.LEFT


def test_an_upload_that_fails_does_not_hold_the_client_back() -> None:
    core = client()
    receive(core, task())
    delivery = finish(core)

    assert core.handle(Stopping(), NOW) == []
    assert has_left(core.handle(Failed(delivery, Refused("gone")), NOW))


def test_nothing_new_is_begun_and_nothing_is_said_after_the_goodbye() -> None:
    core = client()
    receive(core, task())
    core.handle(Stopping(), NOW)

    assert list(receive(core, task(2))) == []
    delivery = finish(core)
    after = core.handle(Done(delivery, MODEL), NOW)
    assert not any(isinstance(effect, Work) for effect in after)
    assert list(core.handle(Stopping(), NOW)) == []
    assert list(core.handle(Worked(Finished(task_key(PLAN), "done")), NOW)) == []
