"""What follows a round: the next one, the end, or the validations that decide between them."""

from __future__ import annotations

from collections.abc import Sequence

from fedmq.runtime.effects import Ack, Effect
from fedmq_reducer.operations import RecordAttempt
from fedmq_schemas.messages import CombinerPresence, Plan, PlanKey, Progress
from fedmq_schemas.records import SessionChange, SummaryRecord, ValidationRecord
from support.cores import all_of, bodies, events

from .conftest import StartSession
from .driver import SessionDriver
from .records import ends, model_changes, recorded, session_changes

HOMES = {"k1": ["c1", "evaluator"]}
SLOW = "if trainers are only slow, raise `validation_timeout`"
AWAY = "its process is away: its log names the cause, start it again"


def scores(effects: Sequence[Effect]) -> list[tuple[int, float | None]]:
    """Round and value of the scores that are recorded."""
    changes = [change for change in session_changes(effects) if isinstance(change, SessionChange)]
    return [(change.score.round, change.score.value) for change in changes if change.score is not None]


def absences(effects: Sequence[Effect]) -> list[tuple[str | None, int | None, str]]:
    """Client, round of the model and reason of the absences that are reported."""
    return [(event.client, event.round, event.data["reason"]) for event in events(effects, "validation.absent")]


def round_one(session: SessionDriver) -> list[Effect]:
    """The evaluator has validated the seed and round 1 is committed; returns the effects that follow."""
    session.plan()
    session.validate("evaluator", "seed", 0, {"accuracy": 0.1, "loss": 9.0})
    return session.commit(1)


def test_a_session_that_stops_by_a_metric_waits_for_it_before_the_next_round(start: StartSession) -> None:
    session = start(HOMES, rounds=3, stop={"target": 0.9})
    effects = round_one(session)
    assert not all_of(effects, RecordAttempt)
    assert [plan.clients for plan in bodies(effects, Plan)] == [("evaluator",)]
    effects = session.validate("evaluator", "s-0001", 1, {"accuracy": 0.5})
    assert scores(effects) == [(1, 0.5)]
    assert all_of(effects, RecordAttempt)


def test_a_target_that_is_reached_ends_the_session_early(start: StartSession) -> None:
    session = start(HOMES, rounds=3, stop={"target": 0.9})
    round_one(session)
    effects = session.validate("evaluator", "s-0001", 1, {"accuracy": 0.95})
    assert ends(effects) == [("finished", "test/accuracy has reached 0.9: 0.95 in round 1")]


def test_clients_give_the_score_if_all_evaluators_abstain(start: StartSession) -> None:
    session = start(HOMES, rounds=3, stop={"target": 0.9})
    round_one(session)
    effects = session.validate("evaluator", "s-0001", 1, {})
    assert [plan.clients for plan in bodies(effects, Plan)] == [("c1",)]
    assert not all_of(effects, RecordAttempt)
    effects = session.validate("c1", "s-0001", 1, {"accuracy": 0.95})
    assert ends(effects) == [("finished", "accuracy has reached 0.9: 0.95 in round 1")]


def test_clients_give_the_score_if_they_have_tensors_of_their_own(start: StartSession) -> None:
    session = start(HOMES, rounds=3, stop={"target": 0.9}, tensors={"local": ["b"]})
    round_one(session)
    effects = session.validate("evaluator", "s-0001", 1, {"accuracy": 0.95})
    assert not ends(effects)
    effects = session.validate("c1", "s-0001", 1, {"accuracy": 0.91})
    assert ends(effects) == [("finished", "accuracy has reached 0.9: 0.91 in round 1")]


def test_a_round_follows_without_a_score_when_its_time_is_over(start: StartSession) -> None:
    session = start(HOMES, rounds=3, stop={"target": 0.9}, validation_timeout=30)
    round_one(session)
    assert session.timers["score:s"] == 30
    effects = session.fire("score:s")
    assert scores(effects) == [(1, None)]
    assert all_of(effects, RecordAttempt)


def test_nobody_is_waited_for_who_has_left(start: StartSession) -> None:
    session = start({"k1": ["c1"], "k2": ["evaluator"]}, rounds=3, stop={"target": 0.9})
    round_one(session)
    effects = session.receive(CombinerPresence(clients=0, gone=("evaluator",)), "k2")
    assert scores(effects) == [(1, None)]
    assert all_of(effects, RecordAttempt)


def test_no_round_begins_after_the_policys_time(start: StartSession) -> None:
    session = start(rounds=3, clients_required=2, stop={"max_time": 60})
    session.plan()
    session.at = 61.0
    assert ends(session.commit(1)) == [("finished", "60 s are over")]


def test_older_models_validations_are_waited_for_too(start: StartSession) -> None:
    session = start(HOMES, rounds=1, validation="none")
    session.plan()
    session.commit(1)
    assert ends(session.validate("evaluator", "s-0001", 1, {"loss": 2.0})) == []
    assert ends(session.validate("evaluator", "seed", 0, {"loss": 9.0})) == [("finished", "")]


def test_the_last_models_validations_are_waited_for(start: StartSession) -> None:
    session = start(HOMES, rounds=1, validation="with_training")
    effects = round_one(session)
    assert sorted(client for plan in bodies(effects, Plan) for client in plan.clients) == ["c1", "evaluator"]
    assert [change.state for change in session_changes(effects) if isinstance(change, SessionChange)][
        -1
    ] == "validating"
    assert ends(session.validate("c1", "s-0001", 1, {"loss": 1.0})) == []
    assert ends(session.validate("evaluator", "s-0001", 1, {"loss": 2.0})) == [("finished", "")]


def test_nobody_is_waited_for_in_the_last_window_who_has_left(start: StartSession) -> None:
    session = start({"k1": ["c1"], "k2": ["evaluator"]}, rounds=1)
    round_one(session)
    effects = session.receive(CombinerPresence(clients=0, gone=("evaluator",)), "k2")
    assert ends(effects) == [("finished", "")]


def test_the_last_models_validations_are_waited_for_until_their_time_is_over(start: StartSession) -> None:
    session = start(HOMES, rounds=1, validation="with_training", validation_timeout=30)
    round_one(session)
    session.validate("c1", "s-0001", 1, {"loss": 1.0})
    effects = session.fire("window:s")
    assert ends(effects) == [("finished", "")]
    assert model_changes(effects)[-1].metrics["loss"]["mean"] == 1.0


def test_who_has_not_validated_by_the_deadline_is_reported_with_the_place_where_it_hangs(start: StartSession) -> None:
    session = start({"k1": ["c1", "c2", "evaluator"]}, rounds=1, validation="with_training", validation_timeout=30)
    [plan] = bodies(round_one(session), Plan)
    session.validate("c1", "s-0001", 1, {"loss": 1.0})
    hangs = Progress(plan=plan.plan, fraction=0.0, place="trainer.py:22 in validate", client="c2")
    assert session.receive(hangs, "k1") == [Ack((session.tag,))]
    effects = session.fire("window:s")
    remedy = "if trainers are only slow, raise `validation_timeout`"
    assert [(event.client, event.round, event.data) for event in events(effects, "validation.absent")] == [
        ("c2", 1, {"model": "s-0001", "reason": f"no answer in 30 s; it was in trainer.py:22 in validate; {remedy}"}),
        ("evaluator", 1, {"model": "s-0001", "reason": f"no answer in 30 s; {remedy}"}),
    ]
    assert ends(effects) == [("finished", "")]


def test_whose_answer_was_missing_when_a_score_was_decided_is_reported_before_the_next_round(
    start: StartSession,
) -> None:
    """The session went on without a score, and without a word about the trainer that hung."""
    session = start(HOMES, rounds=3, stop={"target": 0.9}, validation_timeout=30)
    round_one(session)
    effects = session.fire("score:s")
    assert absences(effects) == [("evaluator", 1, f"no answer in 30 s; {SLOW}")]
    assert all_of(effects, RecordAttempt)


def test_a_client_that_was_killed_after_its_request_is_reported_with_the_time_that_it_had(start: StartSession) -> None:
    session = start({"k1": ["c1"], "k2": ["evaluator"]}, rounds=1, validation="with_training", validation_timeout=30)
    round_one(session)
    session.at += 12.0
    session.receive(CombinerPresence(clients=0, gone=("evaluator",)), "k2")
    session.at += 0.5
    effects = session.validate("c1", "s-0001", 1, {"loss": 1.0})
    assert absences(effects) == [("evaluator", 1, f"no answer in 12.5 s; {AWAY}")]
    assert ends(effects) == [("finished", "")]


def test_a_client_that_was_killed_before_a_score_was_decided_is_reported(start: StartSession) -> None:
    session = start({"k1": ["c1"], "k2": ["evaluator"]}, rounds=3, stop={"target": 0.9})
    round_one(session)
    session.at += 2.0
    effects = session.receive(CombinerPresence(clients=0, gone=("evaluator",)), "k2")
    assert absences(effects) == [("evaluator", 1, f"no answer in 2 s; {AWAY}")]


def test_a_client_that_was_moved_after_its_request_is_reported_with_that(start: StartSession) -> None:
    session = start({"k1": ["c1"], "k2": ["evaluator"]}, rounds=1, validation="with_training", validation_timeout=30)
    round_one(session)
    session.leave("k2")
    session.at += 1.0
    effects = session.validate("c1", "s-0001", 1, {"loss": 1.0})
    moved = "it was moved from combiner k2 to k1 meanwhile"
    assert absences(effects) == [("evaluator", 1, f"no answer in 1 s; {moved}")]


def test_a_client_that_was_asked_later_is_reported_with_its_own_time(start: StartSession) -> None:
    session = start(HOMES, rounds=3, stop={"target": 0.9}, validation_timeout=30)
    round_one(session)
    session.at += 20.0
    session.validate("evaluator", "s-0001", 1, {})
    session.at += 10.0
    assert absences(session.fire("score:s")) == [("c1", 1, f"no answer in 10 s; {SLOW}")]


def test_a_place_counts_only_from_the_combiner_that_has_the_clients_task(start: StartSession) -> None:
    session = start({"k1": ["c1"], "k2": ["evaluator"]}, rounds=1, validation="with_training", validation_timeout=30)
    plans = {plan.clients[0]: plan.plan for plan in bodies(round_one(session), Plan)}
    place = "trainer.py:22 in validate"
    session.receive(Progress(plan=plans["c1"], fraction=0.0, place=place, client="c1"), "k2")
    session.receive(Progress(plan=plans["evaluator"], fraction=0.0, place=place, client="c1"), "k2")
    session.receive(Progress(plan=PlanKey(session="t", round=1), fraction=0.0, place=place, client="c1"), "k1")
    absent = events(session.fire("window:s"), "validation.absent")
    assert [(event.client, place in event.data["reason"]) for event in absent] == [("c1", False), ("evaluator", False)]


def test_a_validation_is_recorded_and_reported_then_acknowledged(start: StartSession) -> None:
    session = start(HOMES, rounds=1, validation="with_training")
    round_one(session)
    effects = session.validate("evaluator", "s-0001", 1, {"loss": 2.0})
    [record] = recorded(effects, ValidationRecord)
    assert (record.session, record.round, record.client, record.scope) == ("s", 1, "evaluator", "test")
    [event] = events(effects, "model.validated")
    assert (event.client, event.round, event.data["metrics"]) == ("evaluator", 1, {"loss": 2.0})
    assert Ack((session.tag,)) in effects


def test_a_clients_validation_with_its_training_is_of_the_model_before(start: StartSession) -> None:
    session = start({"k1": ["c1"]}, rounds=2, validation="with_training")
    [plan] = session.plan()
    assert plan.validate_model
    [record] = recorded(session.validate("c1", "seed", 0, {"loss": 2.0}, "train"), ValidationRecord)
    assert (record.round, record.model) == (0, "seed")
    [summary] = recorded(session.commit(1), SummaryRecord)
    assert (summary.round, summary.model, summary.metrics["loss"]["mean"]) == (0, "seed", 2.0)


def test_the_metrics_of_evaluators_are_prefixed(start: StartSession) -> None:
    session = start(HOMES, rounds=1, validation="with_training")
    round_one(session)
    session.validate("c1", "s-0001", 1, {"loss": 1.0})
    effects = session.validate("evaluator", "s-0001", 1, {"loss": 2.0})
    metrics = model_changes(effects)[-1].metrics
    assert (metrics["loss"]["mean"], metrics["test/loss"]["mean"]) == (1.0, 2.0)


def test_a_stop_ends_a_session_that_waits_for_validations(start: StartSession) -> None:
    session = start(HOMES, rounds=1, validation="with_training")
    round_one(session)
    assert ends(session.stop("after_round")) == [("stopped", "stopped by operator")]


def test_a_long_list_of_clients_is_stored_as_a_blob_before_its_plan(start: StartSession) -> None:
    session = start({"k1": [f"c{number}" for number in range(501)]}, rounds=1)
    [plan] = session.plan()
    assert plan.clients == () and plan.clients_ref is not None
    assert plan.clients_ref.key == "updates/s/000001/clients-train-1-0.json"
