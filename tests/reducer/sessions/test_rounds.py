"""A synchronous session, from the start message to its end, and what may come between."""

from __future__ import annotations

from typing import Literal

import pytest

from fedmq.errors import NotFound, Refused
from fedmq.runtime.effects import Ack, Publish, Reject
from fedmq_reducer.operations import (
    Aggregate,
    ChangeSession,
    CheckLease,
    OpenSeed,
    RecordAttempt,
    RecordRound,
    RecordSession,
    ReplaceAttempt,
)
from fedmq_schemas.messages import Plan, Start, VoidPlan
from fedmq_schemas.records import AttemptRecord, PartialRecord, RoundRecord, SessionChange, SessionRecord
from support.cores import all_of, blob, bodies, events, one

from .conftest import StartSession
from .driver import SEED, TERM, SessionDriver, aggregated, partial
from .records import ends, recorded, session_changes


def test_a_start_message_is_recorded_then_acknowledged_then_the_seed_is_opened(session: SessionDriver) -> None:
    effects = session.receive(Start(policy=session.policy), "operator", message_id="s")
    recorded = one(effects, RecordSession)
    assert effects == [recorded, Ack((session.tag,))]
    effects = session.done(recorded)
    assert [event.id for event in events(effects, "session.queued")] == ["queued-s"]
    assert one(effects, OpenSeed).session == "s"


def test_the_same_start_message_again_starts_nothing(session: SessionDriver) -> None:
    session.queue()
    effects = session.receive(Start(policy=session.policy), "operator", message_id="s")
    assert not recorded(effects, SessionRecord)
    assert effects[-1] == Ack((session.tag,))


def test_a_start_message_whose_record_is_refused_is_rejected_and_may_be_sent_again(session: SessionDriver) -> None:
    effects = session.receive(Start(policy=session.policy), "operator", message_id="s")
    refused = session.failed(one(effects, RecordSession), Refused("the document is too large"))
    assert one(refused, Reject) == Reject(session.tag, "the document is too large")
    assert [event.data["reason"] for event in events(refused, "session.refused")] == ["the document is too large"]
    assert one(session.queue(), OpenSeed).session == "s"


def test_an_opened_seed_is_recorded_and_the_first_draw_follows(session: SessionDriver) -> None:
    effects = session.done(one(session.queue(), OpenSeed), SEED)
    assert session_changes(effects)[0] == SessionChange(seed="seed", base=None, started_at=1_000.0)
    assert [event.data["seed"] for event in events(effects, "session.started")] == ["seed"]
    [attempt] = recorded(effects, AttemptRecord)
    assert [(plan.combiner, plan.clients) for plan in attempt.plans] == [("k1", ("c1",)), ("k2", ("c2",))]
    assert not bodies(effects, Plan), "no plan leaves before its draw is recorded"


def test_plans_are_published_once_the_draw_is_recorded(session: SessionDriver) -> None:
    plans = session.plan()
    assert [(plan.plan.part, plan.clients) for plan in plans] == [(0, ("c1",)), (1, ("c2",))]
    assert {(plan.epoch, plan.model.key) for plan in plans} == {(TERM, "models/seed")}


def test_from_the_last_partial_in_to_the_next_task_out(session: SessionDriver) -> None:
    session.plan()
    first = session.receive(partial(0), "k1")
    assert len(recorded(first, PartialRecord)) == 1 and first[-1] == Ack((session.tag,))
    last = session.receive(partial(1), "k2")
    completing = session.tag
    aggregate = one(last, Aggregate)
    assert aggregate.partials == (partial(0), partial(1))
    assert not all_of(last, Ack), "the round's record acknowledges the partial that completes the round"

    recording = session.done(aggregate, aggregated(1))
    assert [(each.round, each.model.key) for each in recorded(recording, RoundRecord)] == [(1, "models/s-0001")]
    drawn = session.done(one(recording, RecordRound))

    assert drawn[0] == Ack((completing,))
    assert [event.id for event in events(drawn, "round.committed")] == ["committed-s-1"]
    plans = session.next_plans(drawn)
    assert [(plan.plan.round, plan.plan.part) for plan in plans] == [(2, 0), (2, 1)]
    assert {plan.model.key for plan in plans} == {"models/s-0001"}


def test_the_last_round_finishes_the_session_and_combiners_forget_it(session: SessionDriver) -> None:
    session.plan()
    session.next_plans(session.commit(1))
    effects = session.commit(2)
    assert ends(effects) == [("finished", "")]
    [event] = events(effects, "session.finished")
    assert (event.id, event.round, event.data["model"]) == ("ended-s", 2, "s-0002")
    assert [void.session for void in bodies(effects, VoidPlan)] == ["s", "s"]
    assert session_changes(effects)[-1] == SessionChange(announced=True)


def test_a_round_that_somebody_recorded_before_counts(session: SessionDriver) -> None:
    session.plan()
    recording = session.done(session.answer(), aggregated(1))
    [mine] = recorded(recording, RoundRecord)
    theirs = mine.model_copy(update={"model": blob("models/s-0001-other")})
    drawn = session.done(one(recording, RecordRound), theirs)
    assert {plan.model.key for plan in session.next_plans(drawn)} == {"models/s-0001-other"}


def test_a_draw_that_somebody_recorded_before_counts(session: SessionDriver) -> None:
    drawing = one(session.open(), RecordAttempt)
    theirs = drawing.record.model_copy(update={"plans": drawing.record.plans[:1], "exponents": (9,)})
    [plan] = bodies(session.done(drawing, theirs), Plan)
    assert (plan.clients, plan.exponents) == (("c1",), (9,))


def test_a_partial_that_is_delivered_again_is_acknowledged_and_not_recorded_again(session: SessionDriver) -> None:
    session.plan()
    session.receive(partial(0), "k1")
    again = session.receive(partial(0), "k1")
    assert again == [CheckLease(TERM), Ack((session.tag,))]


def test_the_completing_partial_delivered_again_waits_for_the_rounds_record_too(session: SessionDriver) -> None:
    session.plan()
    aggregate = session.answer()
    completing = session.tag
    assert session.receive(partial(1), "k2") == []
    drawn = session.done(one(session.done(aggregate, aggregated(1)), RecordRound))
    assert drawn[0] == Ack((completing, session.tag))


def test_a_partial_that_arrives_while_its_attempt_is_being_recorded_counts(session: SessionDriver) -> None:
    """A reducer before this one has drawn the same attempt, and its plans are out."""
    drawing = one(session.open(), RecordAttempt)
    assert session.receive(partial(0), "k1") == []
    early = session.tag
    running = session.done(drawing, drawing.record)
    assert [record.partial for record in recorded(running, PartialRecord)] == [partial(0)]
    assert Ack((early,)) in running
    assert [plan.plan.part for plan in bodies(running, Plan)] == [1], "the answered plan is not sent again"
    assert one(session.receive(partial(1), "k2"), Aggregate).partials == (partial(0), partial(1))


def test_a_partial_that_arrives_while_its_attempt_is_being_recorded_is_settled_if_the_session_ends(
    session: SessionDriver,
) -> None:
    session.open()
    session.receive(partial(0), "k1")
    early = session.tag
    assert Ack((early,)) in session.stop()


def test_a_partial_of_a_plan_that_is_not_open_is_acknowledged_and_reported(session: SessionDriver) -> None:
    session.plan()
    effects = session.receive(partial(0, number=9), "k1")
    assert [event.data["plan"] for event in events(effects, "plan.voided")] == ["s/9/train/1/0"]
    assert effects[-2:] == [CheckLease(TERM), Ack((session.tag,))]


def test_a_combiner_that_says_hello_gets_its_open_plan_again_and_no_answered_one(session: SessionDriver) -> None:
    session.plan()
    session.receive(partial(0), "k1")
    assert bodies(session.hello("k1"), Plan) == []
    assert [plan.plan.part for plan in bodies(session.hello("k2"), Plan)] == [1]


def test_clients_of_a_vanished_combiner_are_planned_elsewhere_in_the_same_attempt(session: SessionDriver) -> None:
    session.plan()
    effects = session.leave("k2")
    assert [plan.voided for plan in recorded(effects, AttemptRecord)[0].plans] == [False, True, False]
    kinds = [type(effect.body) if isinstance(effect, Publish) else type(effect) for effect in effects]
    assert kinds.index(ReplaceAttempt) < kinds.index(VoidPlan) < kinds.index(Plan), "recorded, then published"
    assert [(plan.plan.part, plan.clients) for plan in bodies(effects, Plan)] == [(2, ("c2",))]
    session.receive(partial(0), "k1")
    assert one(session.receive(partial(2), "k1"), Aggregate).partials == (partial(0), partial(2))


MEDIAN = {"rule": "median"}


def test_a_rule_that_does_not_compose_is_planned_at_one_combiner(start: StartSession) -> None:
    session = start({"k1": ["c1", "c2"], "k2": []}, strategy=MEDIAN)
    assert [(plan.clients, plan.rule) for plan in session.plan()] == [(("c1", "c2"), "median")]
    assert session.answer().strategy.rule == "median"


def test_a_rule_that_does_not_compose_ends_a_session_whose_clients_are_at_two_combiners(start: StartSession) -> None:
    effects = start(strategy=MEDIAN).open()
    assert bodies(effects, Plan) == []
    [(state, reason)] = ends(effects)
    assert (state, reason) == (
        "failed",
        "the rule 'median' does not compose over combiners, and the clients of round 1 are at 2 combiners (k1, k2): "
        "run one combiner, or choose another strategy.rule",
    )


def test_a_rule_that_does_not_compose_moves_to_one_other_combiner_and_to_no_two(start: StartSession) -> None:
    session = start({"k1": ["c1", "c2"], "k2": []}, strategy=MEDIAN)
    session.plan()
    assert [plan.clients for plan in bodies(session.leave("k1"), Plan)] == [("c1", "c2")]

    session = start({"k1": ["c1", "c2"], "k2": [], "k3": []}, strategy=MEDIAN)
    session.plan()
    [(state, reason)] = ends(session.leave("k1"))
    assert state == "failed" and "are at 2 combiners (k2, k3)" in reason


def test_a_deadline_voids_the_open_plans_and_the_round_is_attempted_again(session: SessionDriver) -> None:
    session.plan()
    session.receive(partial(0), "k1")
    effects = session.fire("round:s")
    assert [void.plans[0].part for void in bodies(effects, VoidPlan)] == [1]
    assert [event.data["reason"] for event in events(effects, "round.retried")] == ["round 1 got 1 updates of 2"]
    assert {plan.plan.attempt for plan in session.next_plans(effects)} == {2}


def test_a_deadline_with_enough_updates_commits_the_round(start: StartSession) -> None:
    session = start(rounds=1, clients_required=1)
    session.plan()
    session.receive(partial(0), "k1")
    assert one(session.fire("round:s"), Aggregate).partials == (partial(0),)


def test_a_deadline_with_too_few_updates_ends_a_session_without_retries(start: StartSession) -> None:
    session = start(rounds=2, clients_required=2, retries=0)
    session.plan()
    session.receive(partial(0), "k1")
    assert ends(session.fire("round:s")) == [("failed", "round 1 got 1 updates of 2 in 1 attempt")]


@pytest.mark.parametrize("when", ["now", "after_round"])
def test_a_stop_while_the_round_is_recorded_ends_the_session_with_that_round(
    session: SessionDriver, when: Literal["now", "after_round"]
) -> None:
    session.plan()
    aggregate = session.answer()
    stopping = session.stop(when)
    assert session_changes(stopping) == [SessionChange(stop_after_round=True)] and stopping[-1] == Ack((session.tag,))
    committed = session.done(one(session.done(aggregate, aggregated(1)), RecordRound))
    reason = {"now": "stopped by operator", "after_round": "stopped after the round"}[when]
    assert ends(committed) == [("stopped", reason)]
    assert [event.round for event in events(committed, "session.stopped")] == [1]


def test_a_stop_after_the_round_lets_the_open_round_end(session: SessionDriver) -> None:
    session.plan()
    assert ends(session.stop("after_round")) == []
    assert ends(session.commit(1)) == [("stopped", "stopped after the round")]


def test_a_stop_now_ends_an_open_round_at_once(session: SessionDriver) -> None:
    session.plan()
    effects = session.stop()
    assert ends(effects) == [("stopped", "stopped by operator")] and effects[-1] == Ack((session.tag,))


def test_a_stop_of_a_session_that_is_being_recorded_is_acknowledged_with_its_end(session: SessionDriver) -> None:
    effects = session.receive(Start(policy=session.policy), "operator", message_id="s")
    assert session.stop() == []
    stop = session.tag
    ended = session.done(one(effects, RecordSession))
    assert ends(ended) == [("stopped", "stopped by operator")]
    assert ended.index(Ack((stop,))) > max(ended.index(each) for each in all_of(ended, ChangeSession))


def test_a_stop_of_a_session_whose_record_is_refused_is_acknowledged(session: SessionDriver) -> None:
    effects = session.receive(Start(policy=session.policy), "operator", message_id="s")
    session.stop()
    stop = session.tag
    assert Ack((stop,)) in session.failed(one(effects, RecordSession), Refused("too large"))


def test_a_combiner_that_vanishes_while_the_draw_is_recorded_gets_no_plan(session: SessionDriver) -> None:
    drawing = one(session.open(), RecordAttempt)
    session.leave("k2")
    effects = session.done(drawing)
    assert [(plan.plan.part, plan.clients) for plan in bodies(effects, Plan)] == [(0, ("c1",)), (2, ("c2",))]
    session.receive(partial(0), "k1")
    assert one(session.receive(partial(2), "k1"), Aggregate).partials == (partial(0), partial(2))


def test_a_stop_of_a_session_that_is_not_open_is_refused_with_the_reason(session: SessionDriver) -> None:
    effects = session.stop()
    assert "there is no open session 's' to stop" in events(effects, "message.refused")[0].data["reason"]
    assert effects[-1] == Ack((session.tag,))


def test_a_model_that_cannot_be_made_ends_the_session_with_the_reason(session: SessionDriver) -> None:
    session.plan()
    effects = session.failed(session.answer(), Refused("client 'c1' is in two ledgers"))
    assert ends(effects) == [("failed", "client 'c1' is in two ledgers")]
    assert all_of(effects, Ack), "the partial that completed the round is settled"


def test_a_partial_whose_sum_is_gone_is_settled_and_the_round_is_tried_again(session: SessionDriver) -> None:
    """As after a restore from a backup, while the broker still has what was published since."""
    session.plan()
    request = session.answer()
    completing = session.tag
    effects = session.failed(request, NotFound("there is no blob sum"))
    assert Ack((completing,)) in effects
    [retried] = events(effects, "round.retried")
    assert retried.data == {"reason": "round 1 made no model (there is no blob sum)", "attempt": 1}
    plans = session.next_plans(session.after_pause(effects))
    assert {(plan.plan.round, plan.plan.attempt) for plan in plans} == {(1, 2)}
    assert [each.round for each in recorded(session.done(session.answer(), aggregated(1)), RoundRecord)] == [1]


def test_a_round_whose_sums_are_gone_each_time_ends_the_session_with_the_reason() -> None:
    session = SessionDriver({"k1": ["c1"]}, retries=1)
    session.plan()
    session.next_plans(session.after_pause(session.failed(session.answer(), NotFound("there is no blob sum"))))
    effects = session.failed(session.answer(), NotFound("there is no blob sum"))
    assert ends(effects) == [("failed", "round 1 made no model (there is no blob sum) in 2 attempts")]


def test_a_seed_that_is_not_there_ends_the_session_with_the_reason(session: SessionDriver) -> None:
    effects = session.failed(one(session.queue(), OpenSeed), NotFound("there is no model 'x'"))
    assert ends(effects) == [("failed", "there is no model 'x'")]


def test_the_next_session_of_the_queue_starts_when_the_one_before_it_ends(session: SessionDriver) -> None:
    session.plan()
    waiting = session.queue("t")
    assert not all_of(waiting, OpenSeed)
    assert one(session.stop(), OpenSeed).session == "t"


def test_plans_are_published_in_the_order_of_their_parts(session: SessionDriver) -> None:
    effects = session.done(one(session.open(), RecordAttempt))
    keys = [effect.routing_key for effect in all_of(effects, Publish)]
    assert keys == sorted(keys)
