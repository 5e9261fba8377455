"""A plan's course, from its message to its partial."""

from __future__ import annotations

from combiner.protocol import (
    MODEL,
    REDUCER,
    Combiner,
    decline,
    discarded,
    key,
    outcomes,
    plan,
    update,
    upload,
    void,
)
from fedmq.errors import NotFound
from fedmq.runtime.effects import Ack, CancelTimer, Publish, PublishEvent, StartTimer
from fedmq_combiner.operations import Close, Closed, Drop, Fold, Open
from fedmq_schemas.messages import Cancel, Decline, Partial, Progress, TaskMessage
from fedmq_schemas.records import LedgerEntry
from support.cores import all_of, blob, bodies, events, one


def test_a_round_from_the_plan_to_its_partial(combiner: Combiner) -> None:
    asked = combiner.receive(plan(), REDUCER)
    assert asked[:2] == [StartTimer("deadline:s/1/train/1/0", 60.0), Ack((combiner.tag,))]
    assert one(asked, Open).plan == plan()

    sent = combiner.opened(one(asked, Open))
    assert [task.client for task in bodies(sent, TaskMessage)] == ["c1", "c2"]

    assert outcomes(combiner.accept("c1")) == [("accepted", "c1")]
    first = combiner.tag
    last = combiner.accept("c2")
    close = one(last, Close)
    assert [(entry.client, entry.outcome, entry.weight) for entry in close.ledger.entries] == [
        ("c1", "accepted", 3),
        ("c2", "accepted", 3),
    ]
    assert close.ledger.total_weight == 6
    assert not all_of(last, Ack)

    answered = combiner.done(close, Closed(blob("sum"), blob("ledger"), 6))
    published, acknowledged = answered
    assert isinstance(published, Publish)
    assert isinstance(published.body, Partial)
    assert (published.body.plan, published.body.sum, published.body.total_weight) == (key(), blob("sum"), 6)
    assert (published.id, published.routing_key) == ("partial-s/1/train/1/0-k1", "update.reducer.k1")
    assert acknowledged == Ack((first, combiner.tag))
    assert combiner.unsettled == []


def test_an_update_that_is_rejected_when_the_plan_is_closed_is_no_part_of_the_answer(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.accept("c1")
    close = one(combiner.accept("c2"), Close)
    changed = close.ledger.entries[1].model_copy(update={"outcome": "rejected", "reason": "its blob has changed"})

    answered = combiner.done(close, Closed(blob("sum"), blob("ledger"), 3, (changed,)))

    assert [event.data for event in events(answered, "update.rejected")] == [{"reason": "its blob has changed"}]
    [partial] = bodies(answered, Partial)
    assert (partial.counts["accepted"], partial.counts["rejected"]) == (1, 1)


def test_a_task_holds_the_fields_of_its_plan_and_expires_with_it(combiner: Combiner) -> None:
    asked = one(combiner.receive(plan(timeout=60.0), REDUCER), Open)
    combiner.at += 20.0
    sent = [effect for effect in combiner.opened(asked) if isinstance(effect, Publish)]
    assert [effect.routing_key for effect in sent] == ["task.c1", "task.c2"]
    assert [effect.expiration for effect in sent] == [40.0, 40.0]
    task = sent[0].body
    assert isinstance(task, TaskMessage)
    assert (task.plan, task.combiner, task.model, task.timeout) == (key(), "k1", MODEL, 40.0)
    assert len({each.body.seed for each in sent if isinstance(each.body, TaskMessage)}) == 2


def test_an_update_is_folded_when_it_arrives_and_its_message_is_held(combiner: Combiner) -> None:
    combiner.open(plan())
    received = combiner.receive(update("c1"), "c1")
    fold = one(received, Fold)
    assert (fold.plan, fold.client, fold.blob, fold.weight) == (str(key()), "c1", upload("c1"), 3)
    assert not all_of(combiner.folded(fold), Ack)
    assert combiner.unsettled == [update("c1")]


def test_an_accepted_update_is_published_with_its_norm_and_where_the_time_went(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.at = 5.0
    fold = one(combiner.receive(update("c1"), "c1", sent_at=1_003.0), Fold)
    combiner.at = 6.5
    [event] = events(combiner.folded(fold, norm=0.25), "update.accepted")
    assert (event.session, event.round, event.client, event.combiner) == ("s", 1, "c1", "k1")
    seconds = {"train": 2.0, "fold": 1.5, "transit": 2.0}
    assert event.data == {"weight": 3, "norm": 0.25, "metrics": {}, "seconds": seconds}


def test_declines_and_rejections_are_outcomes_of_the_ledger(combiner: Combiner) -> None:
    combiner.open(plan(None, "c1", "c2", "c3"))
    combiner.receive(decline("failed"), "c1")
    combiner.receive(decline("abstained"), "c2")
    fold = one(combiner.receive(update("c3"), "c3"), Fold)
    rejected = combiner.failed(fold, NotFound("its blob is gone"))
    assert outcomes(rejected) == [("rejected", "c3")]
    ledger = one(rejected, Close).ledger
    assert [(entry.outcome, entry.reason) for entry in ledger.entries] == [
        ("failed", "no data"),
        ("abstained", "no data"),
        ("rejected", "its blob is gone"),
    ]
    partial = bodies(combiner.closed(one(rejected, Close)), Partial)[0]
    assert (partial.sum, partial.total_weight) == (None, 0)
    none = dict.fromkeys(("accepted", "discarded", "absent"), 0)
    assert partial.counts == {**none, "rejected": 1, "abstained": 1, "failed": 1}


def test_at_the_deadline_who_has_not_answered_is_absent_and_its_task_is_cancelled(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.accept("c1")
    closing = combiner.fire(f"deadline:{key()}")
    assert outcomes(closing) == [("absent", "c2")]
    [cancel] = [effect for effect in closing if isinstance(effect, Publish)]
    assert (cancel.routing_key, cancel.body, cancel.confirm) == ("task.c2", Cancel(plan=key()), False)
    assert [entry.outcome for entry in one(closing, Close).ledger.entries] == ["accepted", "absent"]


def test_an_absent_client_has_the_place_where_its_trainer_hung_as_its_reason(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.accept("c1")
    report = Progress(plan=key(), fraction=0.5, place="trainer.py:18 in train")
    combiner.receive(report, "c2")
    closing = combiner.fire(f"deadline:{key()}")
    remedy = "if trainers are only slow, raise `timeout`"
    reason = f"no answer in {plan().timeout:g} s; it was in trainer.py:18 in train; {remedy}"
    [event] = events(closing, "update.absent")
    assert (event.client, event.data) == ("c2", {"reason": reason})
    assert [entry.reason for entry in one(closing, Close).ledger.entries] == ["", reason]


def test_the_place_where_a_validation_hangs_is_passed_on_to_the_reducer_that_receives_its_answer(
    combiner: Combiner,
) -> None:
    which = key(action="validate")
    combiner.open(plan(which))
    report = Progress(plan=which, fraction=0.0, place="trainer.py:22 in validate")
    [passed_on] = all_of(combiner.receive(report, "c2"), Publish)
    assert (passed_on.exchange, passed_on.routing_key) == ("update", "update.reducer.k1")
    assert passed_on.body == report.model_copy(update={"client": "c2"})
    assert not all_of(combiner.receive(report, "c9"), Publish)
    assert not all_of(combiner.receive(report.model_copy(update={"place": ""}), "c1"), Publish)


def test_a_partial_states_the_most_frequent_reasons_with_their_counts(combiner: Combiner) -> None:
    combiner.open(plan(None, *(f"c{number}" for number in range(1, 8))))
    combiner.accept("c1")
    declines = {"c2": "train raised KeyError: 'epochs'", "c3": "no patient 17", "c4": "no patient 18", "c5": "x" * 500}
    for client, reason in declines.items():
        combiner.receive(Decline(plan=key(), outcome="failed", reason=reason), client)
    combiner.receive(Decline(plan=key(), outcome="abstained", reason="train returned None"), "c6")
    closing = combiner.fire(f"deadline:{key()}")
    [partial] = bodies(combiner.closed(one(closing, Close)), Partial)
    assert [(each.outcome, each.reason, each.count) for each in partial.reasons] == [
        ("failed", "no patient 17", 2),
        ("failed", "train raised KeyError: 'epochs'", 1),
        ("failed", "x" * 298 + " …", 1),
    ]


def test_a_partial_without_trouble_states_no_reason_on_the_wire(combiner: Combiner) -> None:
    combiner.open(plan(None, "c1"))
    closing = combiner.accept("c1")
    [partial] = bodies(combiner.closed(one(closing, Close)), Partial)
    assert "reasons" not in partial.model_dump()


def test_an_update_that_is_being_folded_at_the_deadline_counts(combiner: Combiner) -> None:
    combiner.open(plan())
    fold = one(combiner.receive(update("c1"), "c1"), Fold)
    assert not all_of(combiner.fire(f"deadline:{key()}"), Close)
    close = one(combiner.folded(fold), Close)
    assert [entry.outcome for entry in close.ledger.entries] == ["accepted", "absent"]


def test_no_timer_of_a_plan_runs_once_its_partial_is_being_written(combiner: Combiner) -> None:
    combiner.open(plan(None, "c1"))
    closing = combiner.accept("c1")
    assert CancelTimer(f"deadline:{key()}") in closing
    assert not any(timer.startswith(("deadline:", "save:")) for timer in combiner.timers)


def test_an_answer_to_a_plan_that_is_closing_or_closed_is_late(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.accept("c1")
    close = one(combiner.fire(f"deadline:{key()}"), Close)
    late = combiner.receive(update("c2"), "c2")
    assert discarded(late) == [("c2", "late: the plan is closed")]
    assert Ack((combiner.tag,)) in late
    combiner.closed(close)
    assert discarded(combiner.receive(update("c2"), "c2")) == [("c2", "late: the plan is closed")]


def test_messages_that_arrive_while_a_plan_is_opened_wait_and_are_dealt_with_in_order(combiner: Combiner) -> None:
    asked = one(combiner.receive(plan(), REDUCER), Open)
    assert not all_of(combiner.receive(update("c2"), "c2"), Fold)
    combiner.receive(decline(), "c1")
    opened = combiner.opened(asked)
    assert [task.client for task in bodies(opened, TaskMessage)] == ["c1", "c2"]
    assert one(opened, Fold).client == "c2"
    assert outcomes(opened) == [("abstained", "c1")]
    combiner.folded(one(opened, Fold))


def test_a_deadline_that_passes_while_the_plan_is_opened_closes_it_afterwards(combiner: Combiner) -> None:
    asked = one(combiner.receive(plan(), REDUCER), Open)
    combiner.receive(update("c2"), "c2")
    assert combiner.fire(f"deadline:{key()}") == []
    opened = combiner.opened(asked)
    assert [task.timeout for task in bodies(opened, TaskMessage)] == [0.0, 0.0]
    closing = combiner.folded(one(opened, Fold))
    assert [entry.outcome for entry in one(closing, Close).ledger.entries] == ["absent", "accepted"]


def test_a_plan_without_clients_is_answered_at_once(combiner: Combiner) -> None:
    empty = plan().model_copy(update={"clients": ()})
    assert one(combiner.open(empty), Close).ledger.entries == ()


def test_a_model_that_cannot_be_read_ends_in_a_partial_without_a_sum(combiner: Combiner) -> None:
    asked = one(combiner.receive(plan(), REDUCER), Open)
    closing = combiner.not_opened(asked, NotFound("there is no blob models/m0"))
    [voided] = events(closing, "plan.voided")
    assert voided.data == {"reason": "there is no blob models/m0", "plan": str(key())}
    assert not bodies(closing, TaskMessage)
    entries = one(closing, Close).ledger.entries
    assert {(entry.outcome, entry.reason) for entry in entries} == {
        ("failed", "the combiner can't open the plan: there is no blob models/m0")
    }
    assert len(bodies(combiner.closed(one(closing, Close)), Partial)) == 1


def test_an_answer_to_a_plan_that_cannot_be_opened_is_late(combiner: Combiner) -> None:
    asked = one(combiner.receive(plan(), REDUCER), Open)
    combiner.receive(update("c1"), "c1")
    closing = combiner.not_opened(asked, NotFound("there is no blob models/m0"))
    assert discarded(closing) == [("c1", "late: the plan is closed")]


def test_a_validation_plan_that_cannot_be_opened_ends(combiner: Combiner) -> None:
    validation = key(1, action="validate")
    asked = one(combiner.receive(plan(validation), REDUCER), Open)
    ended = combiner.not_opened(asked, NotFound("there is no blob models/m0"))
    assert one(ended, Drop).plan == str(validation)
    assert combiner.decisions.open_plans == 0


def test_the_same_plan_again_is_acknowledged_and_changes_nothing(combiner: Combiner) -> None:
    combiner.open(plan())
    assert combiner.receive(plan(), REDUCER) == [Ack((combiner.tag,))]


def test_an_answered_plan_that_is_received_again_is_answered_again(combiner: Combiner) -> None:
    combiner.open(plan(None, "c1"))
    first = combiner.closed(one(combiner.accept("c1"), Close))[0]
    assert combiner.receive(plan(None, "c1"), REDUCER) == [first, Ack((combiner.tag,))]


def test_outcomes_of_a_checkpoint_are_kept_and_only_the_others_get_tasks(combiner: Combiner) -> None:
    saved = LedgerEntry(client="c1", outcome="accepted", weight=3, blob=upload("c1"))
    opened = combiner.open(plan(), saved)
    assert [task.client for task in bodies(opened, TaskMessage)] == ["c2"]
    again = combiner.receive(update("c1"), "c1")
    assert discarded(again) == [("c1", "a duplicate: already accepted")]
    assert one(combiner.accept("c2"), Close).ledger.entries[0] == saved


def test_an_outcome_in_a_checkpoint_of_a_client_without_a_task_is_ignored(combiner: Combiner) -> None:
    combiner.open(plan(None, "c2"), LedgerEntry(client="c2", outcome="abstained"))
    asked = one(combiner.receive(plan(key(2), "c1"), REDUCER), Open)
    opened = combiner.opened(asked, [LedgerEntry(client="c9", outcome="accepted")])
    assert [task.client for task in bodies(opened, TaskMessage)] == ["c1"]
    combiner.outcomes_of["s", 2].pop("c9")


def test_a_validation_plan_sends_tasks_and_ends_at_its_deadline_without_a_partial(combiner: Combiner) -> None:
    validation = key(1, action="validate")
    sent = combiner.open(plan(validation))
    assert [task.client for task in bodies(sent, TaskMessage)] == ["c1", "c2"]
    assert combiner.decisions.open_plans == 1
    ended = combiner.fire(f"deadline:{validation}")
    assert one(ended, Drop).plan == str(validation)
    assert not all_of(ended, Publish)
    assert not all_of(ended, Close)
    assert combiner.decisions.open_plans == 0
    assert combiner.receive(plan(validation), REDUCER) == [Ack((combiner.tag,))]


def test_a_validation_plan_accepts_no_answers(combiner: Combiner) -> None:
    validation = key(1, action="validate")
    combiner.open(plan(validation))
    for answer in (update("c1", which=validation), decline("abstained", validation)):
        reason = "misplaced: the reducer receives the answers to a validation"
        assert discarded(combiner.receive(answer, "c1")) == [("c1", reason)]


def test_two_plans_do_not_disturb_each_other(combiner: Combiner) -> None:
    combiner.open(plan(None, "c1"))
    validation = key(0, action="validate")
    combiner.open(plan(validation, "c1"))
    combiner.fire(f"deadline:{key()}")
    assert events(combiner.receive(void(validation), REDUCER), "update.discarded") == []
    assert combiner.decisions.open_plans == 1


def test_events_of_a_plan_name_the_combiner(combiner: Combiner) -> None:
    combiner.open(plan(None, "c1"))
    effects = [*combiner.receive(decline(), "c1"), *combiner.receive(update("c1"), "c1")]
    found = [effect for effect in effects if isinstance(effect, PublishEvent) and effect.name != "client.joined"]
    assert [(event.name, event.combiner) for event in found] == [
        ("update.abstained", "k1"),
        ("update.discarded", "k1"),
    ]
