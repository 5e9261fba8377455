"""Whose validations a model's window waits for, under each kind of validation, and when it closes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fedmq.effects import Effect, Now, Publish, Received
from fedmq_reducer.assignment import Assignment, Client
from fedmq_reducer.operations import Change
from fedmq_reducer.planning import Desk
from fedmq_reducer.session import Session, State
from fedmq_reducer.validations import Validations
from fedmq_schemas.messages import BlobRef, Envelope, Plan, PlanKey, Validation
from fedmq_schemas.policy import Policy, Stop
from fedmq_schemas.topology import Topology

TRAINERS, EVALUATOR = {"client1", "client2"}, {"evaluator"}
EVERYBODY = TRAINERS | EVALUATOR
TIMEOUT = 30.0


def _model(number: int) -> BlobRef:
    return BlobRef(key=f"models/s-{number:04d}", size=1, sha256="0" * 64)


def _client(name: str, combiner: str = "combiner1") -> Client:
    tasks = ("validate",) if name in EVALUATOR else ("train", "validate")
    return Client(name, {}, tasks, 1, None, "", combiner, None, present=True)


class Table:
    """A session of ten rounds whose model of round `made` is the newest, and those who are there."""

    def __init__(self, made: int = 3, epoch: int = 1, stop: Stop | None = None, **policy: str) -> None:
        assignment = Assignment(Topology("test"), presence=10.0)
        self.clients = assignment.clients
        for name in EVERYBODY:
            self.clients[name] = _client(name)
        self.validations = Validations(Desk(assignment, epoch))
        asked = {"rounds": 10, "validation_timeout": TIMEOUT, "stop": stop or Stop(), **policy}
        self.session = Session("s", Policy.model_validate(asked), 0, 1, State.RUNNING, made + 1, _model(made))

    def ask(self, at: float = 0.0) -> list[Plan]:
        return _plans(self.validations.ask(self.session, Now(at, at)))

    def commit(self, at: float) -> list[Effect]:
        parent = self.session.model
        assert parent is not None
        self.session.model = _model(self.session.round)
        self.session.round += 1
        return self.validations.settle_older(self.session, parent, Now(at, at))

    def answer(self, client: str, number: int) -> None:
        body = Validation(
            plan=PlanKey(session="s", round=number, action="validate"), model=_model(number).key,
            scope="test" if client in EVALUATOR else "client", weight=1, metrics={"loss": 1.0},
        )  # fmt: skip
        envelope = Envelope(kind=body.kind, id="i", alliance="test", sender=client, sent_at=0.0)
        self.validations.received(Received(body, envelope, 1), body, self.session, Now(0.0, 0.0))


def _plans(effects: Sequence[Effect]) -> list[Plan]:
    return [effect.body for effect in effects if isinstance(effect, Publish) and isinstance(effect.body, Plan)]


def _clients(plans: Sequence[Plan]) -> set[str]:
    assert all(plan.plan.action == "validate" for plan in plans)
    return {client for plan in plans for client in plan.clients}


@pytest.mark.parametrize(
    ("validation", "asked", "asked_last"),
    [
        ("with_training", EVALUATOR, EVERYBODY),
        ("separate", EVERYBODY, EVERYBODY),
        ("none", EVALUATOR, EVALUATOR),
    ],
)
def test_who_gets_tasks_to_validate_a_model_and_the_last_one(
    validation: str, asked: set[str], asked_last: set[str]
) -> None:
    table = Table(validation=validation)
    plans = table.ask()
    assert _clients(plans) == asked
    assert {plan.model for plan in plans} == {_model(3)}
    assert _clients(Table(made=10, validation=validation).ask()) == asked_last


@pytest.mark.parametrize(("validation", "expected"), [("with_training", True), ("separate", False), ("none", False)])
def test_a_train_task_says_to_validate_only_where_it_goes_with_the_training(validation: str, expected: bool) -> None:
    assert {plan.validate_model for plan in Table(validation=validation).ask()} == {expected}


def test_nobody_is_asked_twice_and_who_comes_late_is_asked_for_the_newest_model_alone() -> None:
    table = Table(validation="separate")
    table.ask()
    assert table.ask() == []
    table.commit(1.0)
    table.clients["client3"] = _client("client3")
    assert _clients(table.ask(1.0)) == EVERYBODY | {"client3"}
    resent = _plans(table.validations.send_open(table.session, "combiner1", Now(2.0, 2.0)))
    assert {plan.plan.round: _clients([plan]) for plan in resent} == {3: EVERYBODY, 4: EVERYBODY | {"client3"}}


def test_a_combiner_that_says_hello_gets_the_plans_that_it_had_with_the_time_that_is_left() -> None:
    table = Table(validation="separate")
    first = table.ask()
    again = _plans(table.validations.send_open(table.session, "combiner1", Now(10.0, 10.0)))
    assert [plan.plan for plan in again] == [plan.plan for plan in first]
    assert {plan.timeout for plan in again} == {TIMEOUT - 10.0}
    assert table.validations.send_open(table.session, "combiner1", Now(TIMEOUT, TIMEOUT)) == []


def test_a_client_that_has_moved_is_asked_by_its_new_combiner() -> None:
    table = Table(validation="separate")
    first = table.ask()
    table.clients["client2"].combiner = "combiner2"
    moved = _plans(table.validations.send_open(table.session, "combiner2", Now(1.0, 1.0)))
    assert _clients(moved) == {"client2"}
    assert not {plan.plan for plan in moved} & {plan.plan for plan in first}


def test_a_window_closes_when_all_have_answered_or_when_its_time_is_over() -> None:
    for answered, at, is_open in ((EVERYBODY, 2.0, False), (TRAINERS, 2.0, True), (TRAINERS, TIMEOUT, False)):
        table = Table(validation="separate")
        table.ask()
        for client in answered:
            table.answer(client, 3)
        table.commit(1.0)
        effects = table.commit(at)
        assert (3 in table.session.windows) == is_open, (answered, at)
        recorded = [effect.key for effect in effects if isinstance(effect, Change)]
        assert ("s-0003" in recorded) != is_open


def test_who_takes_over_asks_again_in_plans_of_its_own_while_the_window_is_open() -> None:
    first = Table(validation="separate").ask()
    table = Table(made=4, epoch=2, validation="separate")
    table.session.model = _model(2)
    table.validations.reopen(table.session, 2, 0.0)
    table.session.model = _model(3)
    table.validations.reopen(table.session, 3, TIMEOUT)
    table.session.validated["s-0003"] = {"client1": {}}
    again = _plans(table.validations.ask_again(table.session, Now(TIMEOUT, TIMEOUT)))
    assert {plan.plan.round for plan in again} == {3}
    assert _clients(again) == EVERYBODY - {"client1"}
    assert not {plan.plan for plan in again} & {plan.plan for plan in first}


def test_a_score_waits_for_those_who_have_its_metric_and_the_others_are_asked_with_them() -> None:
    stop = Stop(patience=2)
    table = Table(validation="with_training", stop=stop)
    table.session.policy = table.session.policy.model_copy(
        update={"select": table.session.policy.select.model_copy(update={"metric": "loss"})}
    )
    table.session.state = State.COMMITTING
    asked = _plans(table.validations.open_scoring(table.session, Now(0.0, 0.0)))
    assert _clients(asked) == EVERYBODY
    table.answer("client1", 3)
    assert table.validations.score_if_complete(table.session) == []
    table.answer("client2", 3)
    assert table.validations.score_if_complete(table.session) != []
