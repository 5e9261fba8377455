"""A combiner and its reducer: hello and welcome, epochs, void plans, lost connections. And messages that need no plan."""

from __future__ import annotations

from combiner.protocol import REDUCER, Combiner, discarded, key, outcomes, plan, update, void, welcome
from fedmq.errors import Refused
from fedmq.runtime.effects import Ack, CancelTimer, Publish, Reject, StartTimer
from fedmq_combiner.operations import Close, Drop, Fold, Open
from fedmq_schemas.messages import Attach, Cancel, ClientHello, CombinerHello, Progress, TaskMessage
from support.cores import all_of, bodies, events, one

# -- hello and welcome ----------------------------------------------------------------------------------------------


def test_a_combiner_says_hello_until_it_is_welcomed() -> None:
    combiner = Combiner()
    hello = [effect for effect in combiner.start() if isinstance(effect, Publish)]
    assert [(effect.routing_key, effect.body) for effect in hello] == [("assignment.reducer.k1", CombinerHello())]
    assert StartTimer("hello", 2.0) in combiner.receive(ClientHello(), "c1")
    assert bodies(combiner.fire("hello"), CombinerHello)
    combiner.receive(welcome(), REDUCER)
    assert StartTimer("hello", 2.0) not in combiner.receive(ClientHello(), "c1")


def test_a_welcomed_combiner_says_hello_no_more(combiner: Combiner) -> None:
    assert combiner.fire("hello") == []


def test_a_combiner_that_is_served_late_says_hello_again_whatever_welcome_comes() -> None:
    """Another process of its name was served until now, and got the answer to the first hello, of which a copy is late."""
    combiner = Combiner()
    combiner.start()
    combiner.at = 5.0
    assert bodies(combiner.receive(ClientHello(), "c1"), CombinerHello)
    combiner.receive(welcome(), REDUCER)
    assert one(combiner.receive(plan(), REDUCER), Open).plan == plan(), "the answer to the second hello"


def test_a_combiner_that_is_served_soon_says_hello_once() -> None:
    combiner = Combiner()
    combiner.start()
    combiner.at = 1.0
    assert not bodies(combiner.receive(ClientHello(), "c1"), CombinerHello)


def test_a_hello_that_no_reducer_can_receive_is_repeated() -> None:
    combiner = Combiner()
    [hello] = [effect for effect in combiner.start() if isinstance(effect, Publish)]
    assert combiner.failed(hello, Refused("no queue is bound")) == [StartTimer("hello", 2.0)]


def test_answers_that_arrive_before_the_open_plans_wait_for_them() -> None:
    combiner = Combiner()
    combiner.start()
    combiner.receive(update("c1"), "c1")
    combiner.receive(update("c1", which=key(7)), "c1")
    assert len(combiner.unsettled) == 2
    combiner.open(plan())
    assert combiner.unsettled == [update("c1"), update("c1", which=key(7))]
    welcomed = combiner.receive(welcome(), REDUCER)
    assert one(welcomed, Fold).client == "c1"
    assert discarded(welcomed) == [("c1", "superseded: no such plan is open here")]
    combiner.conclude()


# -- epochs ---------------------------------------------------------------------------------------------------------


def test_a_plan_of_an_earlier_epoch_is_void(combiner: Combiner) -> None:
    combiner.receive(welcome(epoch=3), REDUCER)
    received = combiner.receive(plan(epoch=2), REDUCER)
    [voided] = events(received, "plan.voided")
    assert voided.data == {"reason": "the plan's epoch 2 has ended: epoch 3 is current", "plan": str(key())}
    assert received[0] == Ack((combiner.tag,))
    assert not all_of(received, Open)


def test_a_plan_of_a_later_epoch_counts_and_sets_the_epoch(combiner: Combiner) -> None:
    combiner.open(plan(epoch=3))
    assert combiner.receive(void(key(), epoch=2), REDUCER) == [Ack((combiner.tag,))]
    assert events(combiner.receive(plan(key(2), epoch=2), REDUCER), "plan.voided")
    assert combiner.decisions.open_plans == 1


def test_a_welcome_of_an_earlier_epoch_does_not_set_the_epoch_back(combiner: Combiner) -> None:
    combiner.receive(welcome(epoch=3), REDUCER)
    combiner.receive(welcome(epoch=2), REDUCER)
    assert events(combiner.receive(plan(epoch=2), REDUCER), "plan.voided")


# -- plans that are superseded --------------------------------------------------------------------------------------


def test_a_void_plan_is_cancelled_and_its_sum_is_dropped(combiner: Combiner) -> None:
    combiner.open(plan(None, "c1", "c2", "c3"))
    combiner.accept("c1")
    held = combiner.tag
    combiner.receive(update("c2"), "c2")
    voided = combiner.receive(void(key()), REDUCER)
    assert CancelTimer(f"deadline:{key()}") in voided
    assert Ack((held,)) in voided
    assert one(voided, Drop).plan == str(key())
    assert discarded(voided) == [("c2", "superseded: the plan is void")]
    cancels = [effect for effect in voided if isinstance(effect, Publish)]
    assert [(effect.routing_key, effect.body) for effect in cancels] == [("task.c3", Cancel(plan=key()))]
    assert voided[-1] == Ack((combiner.tag,))
    assert combiner.decisions.open_plans == 0
    assert discarded(combiner.receive(update("c3"), "c3")) == [("c3", "superseded: the plan is void")]


def test_the_end_of_the_work_for_a_void_plan_changes_nothing(combiner: Combiner) -> None:
    combiner.open(plan())
    fold = one(combiner.receive(update("c1"), "c1"), Fold)
    combiner.receive(update("c1", "b"), "c1")
    assert discarded(combiner.receive(void(key()), REDUCER)) == [
        ("c1", "superseded: the plan is void"),
        ("c1", "superseded: the plan is void"),
    ]
    assert combiner.folded(fold) == []


def test_a_plan_may_be_voided_while_it_is_opened(combiner: Combiner) -> None:
    asked = one(combiner.receive(plan(), REDUCER), Open)
    combiner.receive(update("c1"), "c1")
    voided = combiner.receive(void(key()), REDUCER)
    assert discarded(voided) == [("c1", "superseded: the plan is void")]
    assert combiner.opened(asked) == []


def test_a_plan_may_be_voided_while_its_partial_is_written(combiner: Combiner) -> None:
    combiner.open(plan(None, "c1"))
    close = one(combiner.accept("c1"), Close)
    tag = combiner.tag
    voided = combiner.receive(void(key()), REDUCER)
    assert Ack((tag,)) in voided
    assert one(voided, Drop).plan == str(key())
    assert combiner.closed(close) == []


def test_a_void_plan_that_failed_to_open_is_not_answered(combiner: Combiner) -> None:
    asked = one(combiner.receive(plan(), REDUCER), Open)
    combiner.receive(void(key()), REDUCER)
    assert combiner.not_opened(asked, Refused("no such model")) == []


def test_an_answered_plan_has_no_sum_to_drop_when_it_is_voided(combiner: Combiner) -> None:
    combiner.open(plan(None, "c1"))
    combiner.closed(one(combiner.accept("c1"), Close))
    assert not all_of(combiner.receive(void(key()), REDUCER), Drop)


def test_a_plan_is_voided_once(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.receive(void(key()), REDUCER)
    again = combiner.receive(void(key()), REDUCER)
    assert bodies(again, Cancel) == [Cancel(plan=key()), Cancel(plan=key())]
    assert not all_of(again, Drop)


def test_a_void_plan_that_is_unknown_is_acknowledged(combiner: Combiner) -> None:
    combiner.open(plan())
    assert combiner.receive(void(key(5)), REDUCER) == [Ack((combiner.tag,))]
    assert combiner.decisions.open_plans == 1


def test_a_plan_that_was_voided_is_not_opened_again(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.receive(void(key()), REDUCER)
    assert combiner.receive(plan(), REDUCER) == [Ack((combiner.tag,))]


def test_a_plan_of_an_earlier_round_or_attempt_is_rejected_as_late(combiner: Combiner) -> None:
    combiner.open(plan(key(2, attempt=2)))
    for late in (key(1), key(2, attempt=1)):
        received = combiner.receive(plan(late), REDUCER)
        assert "has ended or has moved to a later round" in events(received, "plan.voided")[0].data["reason"]
        assert not all_of(received, Open)


def test_all_plans_of_a_session_end_with_it_and_its_clients_forget_it(combiner: Combiner) -> None:
    combiner.open(plan(key(1), "c3"))
    combiner.closed(one(combiner.accept("c3"), Close))
    combiner.open(plan(key(2), "c1", "c2"))
    ended = combiner.receive(void(session="s"), REDUCER)
    assert one(ended, Drop).plan == str(key(2))
    cancels = [effect for effect in ended if isinstance(effect, Publish)]
    assert [effect.routing_key for effect in cancels] == ["task.c1", "task.c2", "task.c3"]
    assert {effect.body for effect in cancels} == {Cancel(plan=key(0), session_over=True)}
    late = combiner.receive(plan(key(3)), REDUCER)
    assert events(late, "plan.voided")
    assert discarded(combiner.receive(update("c1"), "c1")) == [("c1", "superseded: no such plan is open here")]


def test_the_end_of_a_session_leaves_other_sessions_alone(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.receive(void(session="other"), REDUCER)
    assert combiner.decisions.open_plans == 1


def test_an_open_plan_of_an_earlier_round_stays_open(combiner: Combiner) -> None:
    combiner.open(plan(key(1)))
    combiner.open(plan(key(2), "c1"))
    assert combiner.decisions.open_plans == 2
    combiner.accept("c1")


# -- a lost connection ----------------------------------------------------------------------------------------------


def test_after_a_lost_connection_open_plans_start_over(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.accept("c1")
    waiting = one(combiner.receive(update("c2"), "c2"), Fold)
    lost = combiner.reconnect()
    assert lost[:2] == [CancelTimer(f"deadline:{key()}"), CancelTimer(f"save:{key()}")]
    assert one(lost, Drop).plan == str(key())
    assert bodies(lost, CombinerHello)
    assert combiner.folded(waiting) == []

    asked = one(combiner.receive(plan(), REDUCER), Open)
    again = combiner.opened(asked)
    assert [task.client for task in bodies(again, TaskMessage)] == ["c1", "c2"]
    assert outcomes(combiner.accept("c1")) == [("accepted", "c1")]
    assert one(combiner.accept("c2"), Close).ledger.total_weight == 6


def test_sums_of_before_and_after_a_lost_connection_are_distinguished(combiner: Combiner) -> None:
    before = one(combiner.receive(plan(), REDUCER), Open)
    lost = combiner.reconnect()
    after = one(combiner.receive(plan(), REDUCER), Open)
    assert one(lost, Drop).incarnation == before.incarnation
    assert before.incarnation < after.incarnation
    assert combiner.opened(before) == []
    fold = one(combiner.opened(after) + combiner.receive(update("c1"), "c1"), Fold)
    assert fold.incarnation == after.incarnation


def test_work_of_before_a_lost_connection_that_fails_hurts_nobody(combiner: Combiner) -> None:
    combiner.open(plan())
    fold = one(combiner.receive(update("c1"), "c1"), Fold)
    combiner.reconnect()
    combiner.open(plan())
    again = one(combiner.receive(update("c1"), "c1"), Fold)
    assert combiner.failed(fold, Refused("the plan has been dropped")) == []
    assert outcomes(combiner.folded(again)) == [("accepted", "c1")]


def test_an_answered_plan_is_still_known_after_a_lost_connection(combiner: Combiner) -> None:
    combiner.open(plan(None, "c1"))
    first = combiner.closed(one(combiner.accept("c1"), Close))[0]
    combiner.reconnect()
    assert first in combiner.receive(plan(None, "c1"), REDUCER)


def test_a_timer_of_a_plan_that_is_gone_does_nothing(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.receive(void(session="s"), REDUCER)
    combiner.timers[f"deadline:{key()}"] = 60.0
    assert combiner.fire(f"deadline:{key()}") == []


def test_answers_that_waited_for_a_welcome_are_forgotten_with_the_connection() -> None:
    combiner = Combiner()
    combiner.start()
    combiner.receive(update("c1"), "c1")
    combiner.reconnect()
    assert not discarded(combiner.receive(welcome(), REDUCER))


# -- messages that need no plan -------------------------------------------------------------------------------------


def test_a_client_that_says_hello_gets_the_tasks_that_it_has_not_answered(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.open(plan(key(0, action="validate"), "c1"))
    combiner.at = 10.0
    tasks = bodies(combiner.receive(ClientHello(), "c1"), TaskMessage)
    assert [(str(task.plan), task.timeout) for task in tasks] == [(str(key()), 50.0), ("s/0/validate/1/0", 50.0)]
    fold = one(combiner.receive(update("c1"), "c1"), Fold)
    assert [task.plan.action for task in bodies(combiner.receive(ClientHello(), "c1"), TaskMessage)] == ["validate"]
    combiner.folded(fold)
    hello = combiner.receive(ClientHello(), "c1")
    assert [task.plan.action for task in bodies(hello, TaskMessage)] == ["validate"]
    assert hello[-1] == Ack((combiner.tag,))


def test_a_client_that_says_hello_before_its_plan_is_open_gets_nothing_yet(combiner: Combiner) -> None:
    asked = one(combiner.receive(plan(), REDUCER), Open)
    assert not bodies(combiner.receive(ClientHello(), "c1"), TaskMessage)
    assert bodies(combiner.opened(asked), TaskMessage)


def test_a_client_without_a_task_gets_none(combiner: Combiner) -> None:
    combiner.open(plan())
    assert not bodies(combiner.receive(ClientHello(), "c9"), TaskMessage)


def test_progress_is_passed_on_as_an_event(combiner: Combiner) -> None:
    combiner.open(plan())
    received = combiner.receive(Progress(plan=key(), fraction=0.5, metrics={"loss": 1.0}), "c1")
    assert received[0] == Ack((combiner.tag,))
    [event] = events(received, "task.progress")
    assert (event.client, event.round, event.data) == ("c1", 1, {"fraction": 0.5, "metrics": {"loss": 1.0}})


def test_a_message_for_somebody_else_is_rejected(combiner: Combiner) -> None:
    received = combiner.receive(Attach(tasks=("train",), weight=1), "c1")
    assert received == [Reject(combiner.tag, "a combiner does not receive attach messages")]


def test_the_end_of_an_effect_that_nobody_waits_for_changes_nothing(combiner: Combiner) -> None:
    combiner.open(plan())
    assert combiner.done(Drop(str(key(7)), 1)) == []
    assert combiner.failed(Publish("task", "task.c1", Cancel(plan=key())), Refused("no route")) == []
