"""Details of a session that its users rely on: times, orders, and what is recorded beside the round."""

from __future__ import annotations

from fedmq.runtime.effects import Ack, CancelTimer, PublishEvent
from fedmq_reducer.operations import (
    OpenSeed,
    RecordAttempt,
    RecordModel,
    RecordParticipation,
    RecordRound,
)
from fedmq_reducer.retention import Sweep
from fedmq_reducer.snapshot import SessionSnapshot
from fedmq_schemas.messages import Plan
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import PartialRecord, Score, SessionChange
from support.cores import all_of, blob, bodies, events, one

from .conftest import StartSession
from .driver import SessionDriver, aggregated, partial
from .records import attempt_record, ends, recorded, round_record, session_changes, session_record, snapshot


def test_the_reducers_deadline_is_a_tenth_after_the_combiners_and_at_least_five_seconds(start: StartSession) -> None:
    for timeout, expected in ((30.0, 35.0), (300.0, 330.0)):
        session = start(rounds=1, clients_required=2, timeout=timeout)
        session.plan()
        assert session.timers["round:s"] == expected


def test_a_plan_that_is_sent_again_has_the_time_that_is_left(session: SessionDriver) -> None:
    session.plan()
    session.at = 60.0
    assert [plan.timeout for plan in bodies(session.hello("k1"), Plan)] == [session.policy.timeout - 60.0]


def test_a_last_partial_that_does_not_complete_the_round_is_recorded_like_any_other(session: SessionDriver) -> None:
    session.plan()
    session.receive(partial(0), "k1")
    effects = session.receive(partial(1, accepted=0), "k2")
    assert [record.partial for record in recorded(effects, PartialRecord)] == [partial(1, accepted=0)]
    assert Ack((session.tag,)) in effects
    [event] = events(effects, "round.retried")
    assert (event.id, event.data["reason"]) == ("retried-s-1-1", "round 1 got 1 updates of 2")


def test_a_round_is_attempted_once_more_than_it_may_be_retried(start: StartSession) -> None:
    session = start(rounds=1, clients_required=2, retries=1)
    session.plan()
    session.next_plans(session.fire("round:s"))
    assert ends(session.fire("round:s")) == [("failed", "round 1 got 0 updates of 2 in 2 attempts")]


def test_a_rounds_time_counts_from_its_first_attempt(session: SessionDriver) -> None:
    session.plan()
    session.next_plans(session.fire("round:s"))
    retried_at, session.at = session.at, session.at + 10.0
    recording = one(session.done(session.answer(), aggregated(1)), RecordRound)
    assert recording.record.seconds == retried_at + 10.0


def test_a_committed_model_is_recorded_before_the_round_is_reported(session: SessionDriver) -> None:
    session.plan()
    kinds = [(type(effect), getattr(effect, "name", "")) for effect in session.commit(1)]
    assert kinds.index((RecordModel, "")) < kinds.index((PublishEvent, "round.committed"))


def test_what_only_readers_need_follows_the_next_draw(start: StartSession) -> None:
    session = start(rounds=2, clients_required=2, retention={"keep_updates": 0})
    session.plan()
    effects = session.commit(1)
    kinds = [type(effect) for effect in effects]
    assert kinds.index(RecordAttempt) < kinds.index(RecordParticipation) < kinds.index(Sweep)
    assert one(effects, RecordParticipation).ledger == blob("ledger")
    assert one(effects, Sweep) == Sweep("s", 1)


def test_the_last_round_records_its_participation_too(start: StartSession) -> None:
    session = start(rounds=1, clients_required=2)
    session.plan()
    assert one(session.commit(1), RecordParticipation).ledger == blob("ledger")


def test_the_deadline_of_an_answered_round_is_cancelled(session: SessionDriver) -> None:
    session.plan()
    session.answer()
    assert "round:s" not in session.timers


def test_an_ended_session_leaves_no_timer(start: StartSession) -> None:
    session = start(rounds=2, clients_required=2)
    session.plan()
    effects = session.stop()
    assert {each.key for each in all_of(effects, CancelTimer)} == {
        "round:s",
        "retry:s",
        "wait:s",
        "score:s",
        "window:s",
    }


def test_a_session_that_opens_its_seed_is_recorded_as_running(session: SessionDriver) -> None:
    effects = session.queue()
    assert session_changes(effects) == [SessionChange(state="running", waiting="", waiting_until=None)]


def test_the_first_sums_are_scaled_by_the_clients_that_take_part(start: StartSession) -> None:
    session = start({"k1": ["c1", "c2", "evaluator"]}, clients={"exclude": ["c2"]})
    assert one(session.queue(), OpenSeed).weights == (1,)


def taken_over_with_score(start: StartSession, value: float) -> SessionDriver:
    """A reducer takes over after the score of round 1 was recorded; the policy's target is 0.9."""
    policy = Policy.model_validate({"rounds": 3, "validation": "none", "random_seed": 1, "stop": {"target": 0.9}})
    score = Score(round=1, value=value, metric="test/accuracy", mode="max")
    record = session_record(policy=policy.model_dump(mode="json"), score=score.model_dump())
    return start(snapshot=snapshot(SessionSnapshot(record, (round_record(1),))))


def test_a_recorded_score_is_not_made_again_by_a_reducer_that_takes_over(start: StartSession) -> None:
    assert one(taken_over_with_score(start, 0.5).loaded, RecordAttempt).record.round == 2


def test_a_reached_target_ends_the_session_also_after_a_takeover(start: StartSession) -> None:
    ended = ends(taken_over_with_score(start, 0.95).loaded)
    assert ended == [("finished", "test/accuracy has reached 0.9: 0.95 in round 1")]


def test_models_that_are_no_longer_kept_are_not_validated_again(start: StartSession) -> None:
    policy = Policy(rounds=4, clients_required=2, validation="separate", random_seed=1).model_dump(mode="json")
    rounds = tuple(round_record(number).model_copy(update={"committed_at": 1_000.0}) for number in (1, 2))
    kept = SessionSnapshot(session_record(policy=policy), rounds, (attempt_record(3),))
    expired = SessionSnapshot(
        session_record(policy=policy), rounds, (attempt_record(3),), expired_rounds=frozenset({1})
    )
    asked = []
    for found in (kept, expired):
        session = start(snapshot=snapshot(found))
        plans = [plan.plan for plan in bodies(session.loaded, Plan) if plan.plan.action == "validate"]
        asked.append({plan.round for plan in plans})
    assert (1 in asked[0], 1 in asked[1]) == (True, False)
