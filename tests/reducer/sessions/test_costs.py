"""What a bug of the reducer, and a record that the store refuses, cost a session: no more than they must."""

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
from fedmq_reducer.snapshot import Load, SessionSnapshot
from fedmq_schemas.messages import Plan, PlanKey, Start
from fedmq_schemas.records import (
    ModelRecord,
    PartialRecord,
    SessionEnd,
)
from support.cores import all_of, bodies, events, one

from .conftest import StartSession
from .driver import SEED, TERM, SessionDriver, aggregated, partial
from .records import (
    attempt_record,
    ends,
    model_changes,
    recorded,
    round_record,
    session_record,
    snapshot,
)


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


# -- records that are refused -------------------------------------------------------------------------------------------


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
    assert one(session.fire("lease"), Renew).term == TERM
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
    assert change.metrics["loss"]["n"] == 1


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
    assert one(session.fire("lease"), Renew).term == TERM
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
