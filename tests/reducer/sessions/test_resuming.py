"""A reducer that takes over goes on where the records end, and reports again what may not have been reported."""

from __future__ import annotations

import dataclasses

import pytest

from fedmq.errors import Refused
from fedmq.runtime.effects import Effect, Perform, Resubscribe
from fedmq_reducer.operations import (
    Acquire,
    Aggregate,
    ChangeModel,
    ChangeSession,
    OpenSeed,
    RecordAttempt,
    RecordModel,
    RecordPartial,
    RecordParticipation,
    RecordRound,
    RecordSession,
    RecordSummary,
    RecordValidations,
    Renew,
    ReplaceAttempt,
)
from fedmq_reducer.retention import Delete
from fedmq_reducer.snapshot import Load, SessionSnapshot, Snapshot
from fedmq_schemas.messages import Plan, PlanKey, Start, VoidPlan, Welcome
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import (
    AttemptRecord,
    ModelRecord,
    PartialRecord,
    SessionChange,
    SessionEnd,
)
from support.cores import all_of, blob, bodies, events, one

from .conftest import StartSession
from .driver import SEED, TERM, SessionDriver, aggregated, partial
from .records import (
    attempt_record,
    ends,
    model_changes,
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


def reread(session: SessionDriver, *sessions: SessionSnapshot) -> list[Effect]:
    """A bug has been met: the reducer keeps its lease, gives its messages back, and reads these sessions."""
    one(session.after_bug, Resubscribe)
    return session.done(one(session.after_bug, Load), dataclasses.replace(session.snapshot, sessions=sessions))


def test_a_bug_in_a_course_ends_its_session_and_the_next_one_begins(
    start: StartSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = start(rounds=2, clients_required=2)
    session.plan()
    session.queue("t")
    monkeypatch.setattr("fedmq_reducer.sessions.steps.collecting.PartialRecord", None)
    with pytest.raises(AttributeError):
        session.receive(partial(0), "k1")
    assert session.receive(partial(1), "k2") == [], "what arrives meanwhile waits for the records"
    found = SessionSnapshot(session_record(), (round_record(1),), (attempt_record(2),))
    waiting = SessionSnapshot(session_record("queued", session="t", started_at=None, position=1))
    effects = reread(session, found, waiting)
    [(state, reason)] = ends(effects)
    assert (state, reason.startswith("internal error: AttributeError(")) == ("failed", True)
    [event] = events(effects, "session.failed")
    assert (event.session, event.round, event.data["model"]) == ("s", 1, "s-0001")
    opening = one(effects, OpenSeed)
    assert opening.session == "t"
    session.done(opening, SEED)
    assert session.unsettled == []


def test_a_bug_while_a_session_begins_ends_it(start: StartSession, monkeypatch: pytest.MonkeyPatch) -> None:
    session = start()
    recording = one(session.receive(Start(policy=session.policy), "operator", message_id="s"), RecordSession)
    with monkeypatch.context() as patch:
        patch.setattr("fedmq_reducer.sessions.steps.opening.OpenSeed", None)
        with pytest.raises(TypeError):
            session.done(recording)
    effects = reread(session, SessionSnapshot(session_record("queued", started_at=None)))
    assert ends(effects) == [("failed", "internal error: TypeError(\"'NoneType' object is not callable\")")]


def test_a_bug_on_an_event_of_an_ended_session_ends_no_other(
    start: StartSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = start(rounds=2, clients_required=2)
    session.plan()
    monkeypatch.setattr("fedmq_reducer.core.Inbox.received", None)
    session.reducer._context.is_broken = True
    with pytest.raises(TypeError):
        session.receive(partial(0).model_copy(update={"plan": PlanKey(session="old", round=1)}), "k1")
    monkeypatch.undo()
    effects = reread(session, SessionSnapshot(session_record(), (), (attempt_record(),)))
    assert ends(effects) == []
    assert [plan.plan.part for plan in bodies(effects, Plan)] == [0, 1]


def test_a_bug_that_belongs_to_no_session_costs_no_more_than_a_crash(
    start: StartSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = start(rounds=2, clients_required=2)
    session.plan()
    session.receive(partial(0), "k1")
    with monkeypatch.context() as patch:
        patch.setattr("fedmq_reducer.sessions.steps.collecting.ReplaceAttempt", None)
        with pytest.raises(TypeError):
            session.leave("k2")
    assert session.receive(partial(1), "k2") == [], "what arrives is kept, and given back with the lease"
    answered = PartialRecord.of(partial(0), "k1")
    effects = session.start_over(SessionSnapshot(session_record(), (), (attempt_record(),), (answered,)))
    assert session.unsettled == []
    assert [plan.plan.part for plan in bodies(effects, Plan)] == [1]
    assert one(session.receive(partial(1), "k2"), Aggregate).partials == (partial(0), partial(1))


def test_a_timer_of_the_lease_that_met_a_bug_runs_again(start: StartSession, monkeypatch: pytest.MonkeyPatch) -> None:
    session = start()
    with monkeypatch.context() as patch:
        patch.setattr("fedmq_reducer.core.Renew", None)
        with pytest.raises(TypeError):
            session.fire("lease")
    session.start_over()


@pytest.mark.parametrize("kind", [ChangeSession, RecordModel, RecordPartial, ReplaceAttempt])
def test_a_record_that_is_refused_costs_no_more_than_a_crash(start: StartSession, kind: type[Perform]) -> None:
    """Whatever was emitted with it is dropped, perhaps a question that a course waits for."""
    session = start(rounds=2, clients_required=2)
    session.held = (kind,)
    effects = session.queue()
    if kind is not ChangeSession:
        session.done(one(effects, OpenSeed), SEED)
        session.done(session.last(RecordAttempt))
        effects = session.receive(partial(0), "k1")
    if kind is ReplaceAttempt:
        effects = session.leave("k2")
    if kind is RecordModel:
        session.receive(partial(1), "k2")
        session.done(session.last(Aggregate), aggregated(1))
        effects = session.done(session.last(RecordRound))
    refused = session.failed(all_of(effects, kind)[0], Refused("not authorized"))
    assert events(refused, "actor.error")[0].data["reason"] == f"{kind.__name__} is refused: not authorized"
    session.start_over(SessionSnapshot(session_record(), (), (attempt_record(),)))
    session.held = ()
    assert session.unsettled == []
    session.commit(1)


def test_a_validation_that_is_refused_is_a_dead_letter_and_costs_nothing_else(start: StartSession) -> None:
    """Three in a round ended the session before, and each made the reducer start over."""
    session = start({"k1": ["c1", "evaluator"]}, rounds=2)
    session.held = (RecordValidations,)
    session.plan()
    for _ in range(4):
        effects = session.validate("evaluator", "seed", 0, {"loss": 1.0})
        refused = session.failed(one(effects, RecordValidations), Refused("the document is too large"))
        assert refused == []
    assert len(session.dead_letters) == 4
    assert one(session.fire("lease"), Renew)
    session.answer()


def test_a_refused_validation_counts_as_an_answer_without_metrics(start: StartSession) -> None:
    session = start({"k1": ["c1", "c2"]}, rounds=1, validation="with_training")
    session.held = (RecordValidations,)
    session.plan()
    session.commit(1)
    bad = session.validate("c1", "s-0001", 1, {"loss": 9.0, "poison": 1.0})
    session.failed(one(bad, RecordValidations), Refused("key names must not contain NUL"))
    good = session.validate("c2", "s-0001", 1, {"loss": 1.0})
    assert ends(good) == [("finished", "")]
    [change] = model_changes(good)
    assert change.metrics is not None and change.metrics["loss"]["n"] == 1


@pytest.mark.parametrize("kind", [RecordParticipation, ChangeModel, RecordSummary])
def test_clients_words_that_only_readers_need_are_left_out_if_they_are_refused(
    start: StartSession, kind: type[Perform]
) -> None:
    """A NUL in a name of `seconds` ended a session whose model was committed."""
    session = start({"k1": ["c1", "c2"]}, rounds=3, validation="with_training")
    session.held = (kind,)
    session.plan()
    session.validate("c1", "seed", 0, {"loss": 1.0}, "train")
    effects = session.commit(1)
    if kind is ChangeModel:
        session.next_plans(effects)
        session.validate("c1", "s-0001", 1, {"loss": 1.0}, "train")
        effects = session.commit(2)
    refused = session.failed(one(effects, kind), Refused("key names must not contain NUL"))
    reason = f"{kind.__name__} is refused: key names must not contain NUL"
    assert [event.data["reason"] for event in events(refused, "actor.error")] == [reason]
    assert one(session.fire("lease"), Renew)
    session.next_plans(effects)
    session.commit(3 if kind is ChangeModel else 2)


def test_metrics_that_the_store_refuses_are_left_out_of_a_round_which_is_committed(start: StartSession) -> None:
    session = start(rounds=2, clients_required=2)
    session.plan()
    result = dataclasses.replace(aggregated(1), metrics={"poison": 1.0})
    recording = one(session.done(session.answer(), result), RecordRound)
    effects = session.failed(recording, Refused("key names must not contain NUL"))
    again = one(effects, RecordRound)
    assert again.record == recording.record.model_copy(update={"metrics": {}})
    reason = "the metrics of round 1 are not recorded: key names must not contain NUL"
    assert [event.data["reason"] for event in events(effects, "actor.error")] == [reason]
    effects = session.done(again)
    assert recorded(effects, ModelRecord)[0].metrics == {}
    assert session.unsettled == []
    session.next_plans(effects)


def test_a_round_that_the_store_refuses_without_metrics_too_ends_its_session(start: StartSession) -> None:
    session = start(rounds=2, clients_required=2)
    session.plan()
    result = dataclasses.replace(aggregated(1), metrics={"poison": 1.0})
    recording = one(session.done(session.answer(), result), RecordRound)
    again = one(session.failed(recording, Refused("no")), RecordRound)
    assert ends(session.failed(again, Refused("no place left"))) == [("failed", "no place left")]


def test_an_end_whose_reason_is_refused_is_recorded_without_it(start: StartSession) -> None:
    session = start(rounds=2, clients_required=2)
    session.queue()
    session.held = (ChangeSession,)
    effects = session.failed(session.last(OpenSeed), Refused("there is no model \x00"))
    [end] = [each for each in all_of(effects, ChangeSession) if isinstance(each.change, SessionEnd)]
    again = session.failed(end, Refused("no valid text"))
    assert ends(again) == [("failed", "the record store refuses the reason")]
    session.held = ()
    ended = session_record(
        "failed", round=0, reason="the record store refuses the reason", ended_at=1.0, announced=False
    )
    session.fire("lease")
    session.done(one(session.fire("lease"), Acquire), TERM)
    loaded = session.done(session.last(Load), dataclasses.replace(session.snapshot, unannounced=(ended,)))
    assert [event.session for event in events(loaded, "session.failed")] == ["s"]


def test_an_error_that_occurs_three_times_ends_the_session_with_the_reason(
    start: StartSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SessionSnapshot(session_record(), (), (attempt_record(),))
    session = start(snapshot=snapshot(found))
    monkeypatch.setattr("fedmq_reducer.sessions.steps.collecting.ReplaceAttempt", None)
    for _ in range(3):
        with pytest.raises(TypeError):
            session.leave("k2")
        effects = session.start_over(found)
    [(state, reason)] = ends(effects)
    assert state == "failed"
    assert reason.startswith("an error in round 1 has come 3 times: internal error: TypeError(")


def test_a_session_that_can_not_be_resumed_ends_after_three_errors(
    start: StartSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reducer started over for ever: the end itself was made after what raised."""
    session = start()
    found = SessionSnapshot(session_record(), (round_record(1),), (attempt_record(2),))
    monkeypatch.setattr("fedmq_reducer.sessions.resuming.windows.request_again", None)
    session.reducer._note_error("the first")  # no session is known yet
    for _ in range(3):
        with pytest.raises(TypeError):
            session.start_over(found)
    [(state, reason)] = ends(session.start_over(found))
    assert state == "failed" and reason.startswith("an error in round 2 has come 3 times: internal error: TypeError(")


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
