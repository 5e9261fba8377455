"""A reducer that takes over goes on where the records end, and reports again what may not have been reported."""

from __future__ import annotations

from fedmq_reducer.operations import (
    Aggregate,
    OpenSeed,
    RecordAttempt,
    RecordParticipation,
    RecordRound,
)
from fedmq_reducer.retention import Delete
from fedmq_reducer.snapshot import SessionSnapshot, Snapshot
from fedmq_schemas.messages import Plan, VoidPlan, Welcome
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import (
    AttemptRecord,
    ModelRecord,
    PartialRecord,
    SessionChange,
    ValidationRequest,
    WindowRecord,
)
from support.cores import all_of, blob, bodies, events, one

from .conftest import StartSession
from .driver import TERM, aggregated, partial
from .records import (
    attempt_record,
    ends,
    recorded,
    round_record,
    session_changes,
    session_record,
    snapshot,
)


def test_a_queued_session_starts_from_its_beginning(start: StartSession) -> None:
    session = start(snapshot=snapshot(SessionSnapshot(session_record("queued", started_at=None))))
    assert one(session.loaded, OpenSeed).session == "s"


def test_a_session_whose_seed_was_not_open_opens_it_again(start: StartSession) -> None:
    session = start(snapshot=snapshot(SessionSnapshot(session_record(started_at=None))))
    assert one(session.loaded, OpenSeed).session == "s"


def test_recorded_plans_that_are_not_answered_are_sent_again_under_the_new_term(start: StartSession) -> None:
    answered = PartialRecord.of(partial(0), "k1")
    session = start(snapshot=snapshot(SessionSnapshot(session_record(), (), (attempt_record(),), (answered,))))
    [plan] = bodies(session.loaded, Plan)
    assert (plan.plan.part, plan.epoch, plan.model.key, plan.exponents) == (1, TERM, "models/parent-of-1", (3,))
    assert not all_of(session.loaded, RecordAttempt), "the draw is as it was recorded"
    assert one(session.receive(partial(1), "k2"), Aggregate).partials == (partial(0), partial(1))


def test_an_attempt_whose_plans_are_all_answered_is_aggregated_at_once(start: StartSession) -> None:
    answers = tuple(PartialRecord.of(partial(part), f"k{part + 1}") for part in (0, 1))
    session = start(snapshot=snapshot(SessionSnapshot(session_record(), (), (attempt_record(),), answers)))
    aggregate = one(session.loaded, Aggregate)
    assert (aggregate.partials, aggregate.exponents) == ((partial(0), partial(1)), (3,))


def test_a_recorded_round_is_reported_again_and_the_next_one_is_drawn(start: StartSession) -> None:
    session = start(snapshot=snapshot(SessionSnapshot(session_record(), (round_record(1),))))
    assert [event.id for event in events(session.loaded, "round.committed")] == ["committed-s-1"]
    assert [record.model for record in recorded(session.loaded, ModelRecord)] == ["s-0001"]
    assert one(session.loaded, RecordParticipation).ledger == blob("ledger-of-1")
    draw = one(session.loaded, RecordAttempt).record
    assert (draw.round, draw.model.key, draw.exponents) == (2, "models/s-0001", (4,))


def test_a_session_whose_rounds_are_all_recorded_ends(start: StartSession) -> None:
    session = start(snapshot=snapshot(SessionSnapshot(session_record(), (round_record(1), round_record(2)))))
    assert ends(session.loaded) == [("finished", "")]


def test_a_stop_after_the_round_holds_for_the_reducer_that_takes_over(start: StartSession) -> None:
    record = session_record(stop_after_round=True)
    session = start(snapshot=snapshot(SessionSnapshot(record, (round_record(1),))))
    assert ends(session.loaded) == [("stopped", "stopped after the round")]


def test_a_stop_after_the_round_lets_the_round_end_that_a_reducer_before_this_one_has_begun(
    start: StartSession,
) -> None:
    session = start(snapshot=snapshot(SessionSnapshot(session_record(), (), (attempt_record(),))))
    assert ends(session.stop("after_round")) == []
    assert ends(session.commit(1)) == [("stopped", "stopped after the round")]


def test_a_rounds_time_counts_from_its_first_draw_also_by_an_earlier_reducer(start: StartSession) -> None:
    session = start(snapshot=snapshot(SessionSnapshot(session_record(), (), (attempt_record(),))))
    recording = one(session.done(session.answer(), aggregated(1)), RecordRound)
    assert recording.record.seconds == 1_000.0 - attempt_record().created_at


def test_a_resumed_round_states_how_much_of_its_time_had_passed_before_and_the_next_round_does_not(
    start: StartSession,
) -> None:
    session = start(snapshot=snapshot(SessionSnapshot(session_record(), (), (attempt_record(),))))
    session.at += 10.0
    recording = one(session.done(session.answer(), aggregated(1)), RecordRound)
    before = 1_000.0 - attempt_record().created_at
    assert (recording.record.seconds, recording.record.resumed_after) == (before + 10.0, before)
    committed = session.done(recording)
    assert [event.data["resumed_after"] for event in events(committed, "round.committed")] == [before]
    session.next_plans(committed)
    following = one(session.done(session.answer(2), aggregated(2)), RecordRound).record
    assert following.resumed_after == 0.0 and "resumed_after" not in following.document()


def test_plans_of_a_combiner_that_is_gone_are_made_again_for_another_one(start: StartSession) -> None:
    """The combiner has vanished while no reducer was there."""
    session = start({"k1": ["c1", "c2"]}, snapshot=snapshot(SessionSnapshot(session_record(), (), (attempt_record(),))))
    assert [(plan.plan.part, plan.clients) for plan in bodies(session.loaded, Plan)] == [(0, ("c1",)), (2, ("c2",))]
    assert [plan.voided for plan in recorded(session.loaded, AttemptRecord)[0].plans] == [False, True, False]


def test_a_wait_ends_when_it_would_have_ended_without_the_change_of_reducer(start: StartSession) -> None:
    record = session_record("waiting", waiting="waiting for clients, 1 of 2", waiting_until=1_040.0)
    session = start({"k1": ["c1"]}, snapshot=snapshot(SessionSnapshot(record, (round_record(1),))))
    assert session.timers["wait:s"] == 40.0


def test_only_the_first_session_of_the_queue_continues(start: StartSession) -> None:
    later = session_record("queued", session="t", position=1, started_at=None)
    session = start(snapshot=snapshot(SessionSnapshot(session_record(), (round_record(1),)), SessionSnapshot(later)))
    assert not all_of(session.loaded, OpenSeed)
    assert one(session.stop(), OpenSeed).session == "t"


def test_an_end_that_may_not_have_been_reported_is_reported(start: StartSession) -> None:
    ended = session_record("finished", round=2, model="s-0002", reason="", ended_at=700.0, announced=False)
    session = start(snapshot=Snapshot(unannounced=(ended,)))
    [event] = events(session.loaded, "session.finished")
    assert (event.id, event.round, event.data) == ("ended-s", 2, {"reason": "", "model": "s-0002"})
    assert [void.session for void in bodies(session.loaded, VoidPlan)] == ["s", "s"]
    assert session_changes(session.loaded) == [SessionChange(announced=True)]


def test_every_combiner_is_welcomed_after_its_open_plans(start: StartSession) -> None:
    session = start(snapshot=snapshot(SessionSnapshot(session_record(), (), (attempt_record(),))))
    published = [effect.body for effect in session.loaded if hasattr(effect, "body")]
    kinds = [type(body) for body in published]
    assert kinds.count(Welcome) == 2
    assert max(i for i, kind in enumerate(kinds) if kind is Plan) < kinds.index(Welcome)


def test_deletions_that_a_reducer_before_this_one_has_begun_are_finished(start: StartSession) -> None:
    assert Delete(TERM) in start().loaded


def test_the_newest_attempt_is_gone_on_with(start: StartSession) -> None:
    attempts = (attempt_record(attempt=1), attempt_record(attempt=2))
    session = start(snapshot=snapshot(SessionSnapshot(session_record(), (), attempts)))
    assert {plan.plan.attempt for plan in bodies(session.loaded, Plan)} == {2}


def test_tensors_that_do_not_travel_are_named_in_plans_also_after_a_takeover(start: StartSession) -> None:
    record = session_record(base=blob("updates/seed/base-1").model_dump())
    session = start(snapshot=snapshot(SessionSnapshot(record, (), (attempt_record(),))))
    assert {plan.base for plan in bodies(session.loaded, Plan)} == {blob("updates/seed/base-1")}


def test_validations_that_may_be_on_their_way_are_asked_for_again(start: StartSession) -> None:
    policy = Policy(rounds=2, clients_required=2, validation="separate", random_seed=1).model_dump(mode="json")
    record = session_record(policy=policy)
    session = start(snapshot=snapshot(SessionSnapshot(record, (), (attempt_record(),))))
    asked = [plan.clients for plan in bodies(session.loaded, Plan) if plan.plan.action == "validate"]
    assert asked == [("c1",), ("c2",)]


def test_whose_answer_an_earlier_reducer_has_awaited_in_vain_is_reported_at_the_end(start: StartSession) -> None:
    """The client was killed with that reducer, so that nobody has a plan of it any more."""
    asked = ValidationRequest(combiner="k1", clients=("c1", "killed"), at=990.0)
    window = WindowRecord(session="s", round=2, model="s-0002", requests=(asked,), closes_at=995.0)
    found = SessionSnapshot(session_record("validating"), (round_record(1), round_record(2)), windows=(window,))
    session = start(snapshot=snapshot(found))
    reasons = {event.client: event.data["reason"] for event in events(session.loaded, "validation.absent")}
    away = "its process is away: its log names the cause, start it again"
    slow = "if trainers are only slow, raise `validation_timeout`"
    assert reasons == {"c1": f"no answer in 5 s; {slow}", "killed": f"no answer in 5 s; {away}"}
    assert ends(session.loaded) == [("finished", "")]
