"""Which clients a model's window waits for, under each kind of validation, and when it closes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest

from fedmq.runtime.effects import Effect, Now, Publish, Received
from fedmq.runtime.routines import Routine
from fedmq_reducer.members.client_member import ClientMember
from fedmq_reducer.members.membership import Membership
from fedmq_reducer.sessions import windows
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.events import ValidationCounted
from fedmq_reducer.sessions.recording import RecordWindow
from fedmq_reducer.sessions.session import Session
from fedmq_reducer.sessions.steps.concluding import conclude
from fedmq_schemas.messages import BlobRef, Envelope, Plan, PlanKey, Validation
from fedmq_schemas.policy import EarlyStopping, ModelSelection, Policy
from fedmq_schemas.records import SessionChange, ValidationRequest, WindowRecord
from fedmq_schemas.topology import Topology
from support.cores import all_of, blob, bodies, events

from .records import model_changes, recorded, round_record, session_changes

TRAINERS, EVALUATOR = {"client1", "client2"}, {"evaluator"}
EVERYBODY = TRAINERS | EVALUATOR
TIMEOUT = 30.0


def _model(number: int) -> BlobRef:
    return blob(f"models/s-{number:04d}")


def _client(name: str, combiner: str = "combiner1") -> ClientMember:
    tasks = ("validate",) if name in EVALUATOR else ("train", "validate")
    return ClientMember(name, {}, tasks, 1, None, "", combiner, None, present=True)


class Table:
    """A session of ten rounds whose model of round `made` is the newest, and the present clients."""

    def __init__(self, made: int = 3, term: int = 1, stop: EarlyStopping | None = None, **policy: object) -> None:
        self.context = ReducerContext(Membership(Topology("test"), presence=10.0), term)
        self.clients = self.context.members.clients
        for name in EVERYBODY:
            self.clients[name] = _client(name)
        wanted = Policy.model_validate(
            {"rounds": 10, "validation_timeout": TIMEOUT, "stop": stop or EarlyStopping(), **policy}
        )
        self.session = Session("s", wanted, position=0, random_seed=1)
        self.session.adopt_round(round_record(made))

    def at(self, seconds: float) -> None:
        self.context.now = Now(seconds, seconds)

    def plans(self) -> list[Plan]:
        """The plans published since the last look."""
        return bodies(self.context.take_effects(), Plan)

    def ask(self, at: float = 0.0) -> list[Plan]:
        self.at(at)
        windows.request(self.context, self.session)
        return self.plans()

    def hello(self, combiner: str, at: float) -> list[Plan]:
        self.at(at)
        windows.publish_open_plans(self.context, self.session, combiner)
        return self.plans()

    def commit(self, at: float) -> list[Effect]:
        self.at(at)
        parent = self.session.model
        self.session.adopt_round(round_record(self.session.round))
        windows.settle_older(self.context, self.session, parent)
        return self.context.take_effects()

    def answer(self, client: str, number: int) -> None:
        plan = PlanKey(session="s", round=number, action="validate")
        scope: Literal["test", "client"] = "test" if client in EVALUATOR else "client"
        body = Validation(plan=plan, model=_model(number).key, scope=scope, weight=1, metrics={"loss": 1.0})
        envelope = Envelope(kind=body.kind, id="i", alliance="test", sender=client, sent_at=0.0)
        windows.receive(self.context, self.session, Received(body, envelope, 1), body)


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
def test_a_plan_asks_for_validation_with_the_training_only_if_the_policy_says_so(
    validation: str, expected: bool
) -> None:
    assert {plan.validate_model for plan in Table(validation=validation).ask()} == {expected}


def test_no_client_gets_two_plans_for_a_model_and_a_late_client_gets_one_for_the_newest_model_alone() -> None:
    table = Table(validation="separate")
    table.ask()
    assert table.ask() == []
    table.commit(1.0)
    table.clients["client3"] = _client("client3")
    assert _clients(table.ask(1.0)) == EVERYBODY | {"client3"}
    resent = table.hello("combiner1", 2.0)
    assert {plan.plan.round: _clients([plan]) for plan in resent} == {3: EVERYBODY, 4: EVERYBODY | {"client3"}}


def test_a_combiner_that_says_hello_gets_the_plans_that_it_had_with_the_time_that_is_left() -> None:
    table = Table(validation="separate")
    first = table.ask()
    again = table.hello("combiner1", 10.0)
    assert [plan.plan for plan in again] == [plan.plan for plan in first]
    assert {plan.timeout for plan in again} == {TIMEOUT - 10.0}
    assert table.hello("combiner1", TIMEOUT) == []


def test_a_client_that_has_moved_is_asked_by_its_new_combiner() -> None:
    table = Table(validation="separate")
    first = table.ask()
    table.clients["client2"].combiner = "combiner2"
    moved = table.hello("combiner2", 1.0)
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
        assert (3 in table.session.validations.windows) == is_open, (answered, at)
        assert bool(model_changes(effects)) != is_open


def test_who_is_missing_when_an_older_window_closes_is_reported_once() -> None:
    table = Table(validation="separate")
    table.ask()
    table.answer("client1", 3)
    table.commit(1.0)
    absent = events(table.commit(TIMEOUT), "validation.absent")
    assert [(event.client, event.round) for event in absent] == [("client2", 3), ("evaluator", 3)]
    assert absent[0].data["reason"].startswith(f"no answer in {TIMEOUT:g} s; ")
    assert not events(table.commit(TIMEOUT), "validation.absent")


def test_a_window_stays_open_for_a_client_that_is_away_until_its_time_is_over() -> None:
    """A client that is killed and starts again within the time answers; it was left out without a word."""
    table = Table(validation="separate")
    table.ask()
    table.answer("client1", 3)
    table.answer("client2", 3)
    table.clients["evaluator"].present = False
    table.commit(1.0)
    assert not events(table.commit(2.0), "validation.absent")
    [event] = events(table.commit(TIMEOUT), "validation.absent")
    reason = f"no answer in {TIMEOUT:g} s; its process is away: its log names the cause, start it again"
    assert (event.client, event.data["reason"]) == ("evaluator", reason)


def test_whom_a_model_is_requested_of_is_recorded_before_the_plans_are_published() -> None:
    table = Table(validation="separate")
    table.clients["client2"].combiner = "combiner2"
    table.at(5.0)
    windows.request(table.context, table.session)
    effects = table.context.take_effects()
    assert [type(effect) for effect in effects] == [RecordWindow, Publish, Publish]
    first = (
        ValidationRequest(combiner="combiner1", clients=("client1", "evaluator"), at=5.0),
        ValidationRequest(combiner="combiner2", clients=("client2",), at=5.0),
    )
    [record] = recorded(effects, WindowRecord)
    assert (record.key, record.model, record.closes_at, record.absent) == ("s/000003", "s-0003", 5.0 + TIMEOUT, ())
    assert record.requests == first
    table.clients["client3"] = _client("client3")
    table.at(6.0)
    windows.request(table.context, table.session)
    [record] = recorded(table.context.take_effects(), WindowRecord)
    assert record.requests == (*first, ValidationRequest(combiner="combiner1", clients=("client3",), at=6.0))
    windows.request(table.context, table.session)
    assert not table.context.take_effects(), "nothing is recorded unless a client is requested"


def test_a_client_is_requested_since_its_first_request_at_the_combiner_of_its_last_one() -> None:
    table = Table(validation="separate")
    table.ask(5.0)
    table.clients["client2"].combiner = "combiner2"
    table.hello("combiner2", 9.0)
    requested = table.session.validations.windows[3].requested
    assert requested == {"client1": ("combiner1", 5.0), "client2": ("combiner2", 5.0), "evaluator": ("combiner1", 5.0)}


def _window(number: int, *clients: str, absent: tuple[str, ...] = ()) -> WindowRecord:
    requests = (ValidationRequest(combiner="combiner1", clients=clients, at=0.0),)
    return WindowRecord(
        session="s", round=number, model=f"s-{number:04d}", requests=requests, closes_at=TIMEOUT, absent=absent
    )


def test_a_reducer_that_takes_over_after_a_windows_end_reports_whose_answer_is_missing_once() -> None:
    table = Table(made=4, term=2, validation="separate")
    for number in (2, 3):
        windows.reopen(table.session, number, _model(number), 0.0)
    windows.restore(table.session, _window(2, "client1", "client2", "killed", absent=("client2",)))
    table.answer("client1", 2)
    table.at(95.0)
    windows.request_again(table.context, table.session)
    assert not table.plans()
    effects = table.commit(95.0)
    absent = [(event.round, event.client, event.data["reason"]) for event in events(effects, "validation.absent")]
    away = "its process is away: its log names the cause, start it again"
    assert absent == [(2, "killed", f"no answer in {TIMEOUT:g} s; {away}")]
    [record] = recorded(effects, WindowRecord)
    assert (record.round, record.absent) == (2, ("client2", "killed"))
    kinds = [
        type(effect)
        for effect in effects
        if effect in (*events(effects, "validation.absent"), *all_of(effects, RecordWindow))
    ]
    assert kinds[-1] is RecordWindow, "an absence may be published twice, but is not lost"


def test_nobody_is_absent_of_whom_an_earlier_version_has_no_record() -> None:
    table = Table(made=4, term=2, validation="separate")
    windows.reopen(table.session, 2, _model(2), 0.0)
    effects = table.commit(95.0)
    assert not events(effects, "validation.absent")
    assert 2 not in table.session.validations.windows


def test_whom_an_earlier_reducer_has_requested_of_a_deleted_model_is_not_restored() -> None:
    table = Table(made=4, term=2, validation="separate")
    windows.restore(table.session, _window(1, "client1"))
    assert not table.session.validations.windows


def test_a_reducer_that_takes_over_requests_again_in_plans_of_its_own_while_the_window_is_open() -> None:
    first = Table(validation="separate").ask()
    table = Table(made=4, term=2, validation="separate")
    windows.reopen(table.session, 2, _model(2), 0.0)
    windows.reopen(table.session, 3, _model(3), TIMEOUT)
    table.at(TIMEOUT)
    table.answer("client1", 3)
    windows.request_again(table.context, table.session)
    again = table.plans()
    assert {plan.plan.round for plan in again} == {3}
    assert _clients(again) == EVERYBODY - {"client1"}
    assert not {plan.plan for plan in again} & {plan.plan for plan in first}


def test_a_score_waits_for_the_clients_with_its_metric_while_the_others_get_plans_too() -> None:
    table = Table(validation="with_training", stop=EarlyStopping(patience=2), select=ModelSelection(metric="loss"))
    scoring = Routine(table.context, conclude(table.context, table.session))
    scoring.start()
    assert _clients(table.plans()) == EVERYBODY
    table.answer("client1", 3)
    assert scoring.offer(ValidationCounted()) and not scoring.is_over
    table.answer("client2", 3)
    assert scoring.offer(ValidationCounted()) and scoring.is_over
    [score] = [each.score for each in session_changes(table.context.take_effects()) if isinstance(each, SessionChange)]
    assert score is not None and (score.round, score.value) == (3, 1.0)
