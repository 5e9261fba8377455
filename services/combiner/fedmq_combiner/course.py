"""The course of a plan at a combiner, from its message to its partial. Pure.

While a course waits, other code answers hellos, judges answers and discards duplicates by the plan's data (`plans.py`). It
calls `OpenPlan.advance` when a task has an outcome or a timer has fired.
"""

from __future__ import annotations

from collections.abc import Iterable

from fedmq.errors import FedMQError
from fedmq.runtime.effects import Ack, Publish, StartTimer
from fedmq.runtime.routines import Routine
from fedmq_combiner.answers import SAVE_AFTER, receive, receive_early
from fedmq_combiner.context import CombinerContext
from fedmq_combiner.documents import ledger_of, partial_of, task_messages, without
from fedmq_combiner.operations import Close, Drop, Open, Save
from fedmq_combiner.plans import OpenPlan, PlanState, Ready
from fedmq_schemas import topology
from fedmq_schemas.messages import Cancel, Partial, Plan, Progress
from fedmq_schemas.records import LedgerEntry


def start(context: CombinerContext, message: Plan, incarnation: int) -> OpenPlan:
    """Starts the course of a plan, and returns the plan's data."""
    plan = OpenPlan(message, incarnation, context.hold_at_most, context.now.seconds + message.timeout)
    plan.course = Routine(context, train(context, plan) if plan.is_training else validate(context, plan))
    plan.course.start()
    return plan


async def train(context: CombinerContext, plan: OpenPlan) -> None:
    """Sends the tasks, and answers the plan with one partial after all answers or the deadline."""
    await open_plan(context, plan)

    while plan.state is PlanState.OPEN:
        if plan.is_checkpoint_due:
            plan.state = PlanState.SAVING
            outcomes = tuple(entry for entry in plan.entries() if entry.outcome != "absent")
            try:
                await context.ask(Save(plan.name, plan.incarnation, outcomes))
            except FedMQError as error:
                plan.postpone_checkpoint()
                context.emit(StartTimer(plan.save_timer, SAVE_AFTER))
                report(context, plan, f"its checkpoint is refused, so its messages stay held: {error.reason}")
            else:
                context.emit(Ack(plan.take_held()))
            plan.state = PlanState.OPEN
            receive_early(context, plan)
        else:
            await context.first(Ready)

    context.emit(*plan.cancel_timers())
    ledger = ledger_of(plan.message, plan.entries())
    for entry in ledger.entries:
        if entry.outcome == "absent":
            place = plan.tasks[entry.client].place
            context.publish_event("update.absent", plan.key, entry.client, {"reason": entry.reason} if place else {})
            send_cancel(context, entry.client, Cancel(plan=plan.key))
    try:
        closed = await context.ask(Close(plan.message, plan.incarnation, ledger))
    except FedMQError as error:
        report(context, plan, f"its partial is refused, so the reducer has to plan again: {error.reason}")
        void(context, plan)
        return

    for entry in closed.rejected:
        context.publish_event("update.rejected", plan.key, entry.client, {"reason": entry.reason})
        context.report_outcome(entry.client, plan.key, "rejected", entry.reason)
    partial = partial_of(plan.message, without(ledger, closed.rejected), closed)
    plan.state, plan.partial = PlanState.CLOSED, partial
    publish_partial(context, plan, partial)
    context.emit(Ack(plan.take_held()))


async def validate(context: CombinerContext, plan: OpenPlan) -> None:
    """Sends the tasks of a validation plan, which is open until its deadline. Its clients answer the reducer."""
    await open_plan(context, plan)
    while plan.state is PlanState.OPEN:
        await context.first(Ready)
    void(context, plan)


async def open_plan(context: CombinerContext, plan: OpenPlan) -> None:
    """Opens the plan, sends its tasks, and judges early answers. If it can't be opened, all tasks have failed."""
    try:
        opened = await context.ask(Open(plan.message, plan.incarnation))
    except FedMQError as error:
        reason = f"the combiner can't open the plan: {error.reason}"
        clients = plan.message.clients
        plan.open(clients, [LedgerEntry(client=client, outcome="failed", reason=reason) for client in clients])
        plan.close_if_complete()
        context.publish_event("plan.voided", plan.key, data={"reason": error.reason, "plan": plan.name})
    else:
        plan.most_bytes, plan.binds_uploads = opened.most_bytes, opened.binds_uploads
        plan.open(opened.clients, opened.saved)
        send_tasks(context, plan, plan.tasks)
    receive_early(context, plan)


def void(context: CombinerContext, plan: OpenPlan) -> None:
    """Gives up a plan whose routines have ended or are closed, and discards the answers that have no verdict."""
    answers, is_closed = plan.take_answers(), plan.state is PlanState.CLOSED
    plan.state = PlanState.VOID
    context.emit(*plan.cancel_timers(), Ack(plan.take_held()))
    if not is_closed:
        context.emit(Drop(plan.name, plan.incarnation))
    for answer in answers:
        receive(context, plan, answer)


def report(context: CombinerContext, plan: OpenPlan, reason: str) -> None:
    """Publishes a fault of this combiner or of its blob store."""
    context.publish_event("actor.error", plan.key, data={"reason": f"plan {plan.name}: {reason}"})


def send_tasks(context: CombinerContext, plan: OpenPlan, clients: Iterable[str]) -> None:
    """Publishes the tasks of the clients that have not answered. A task expires at the plan's deadline."""
    left = max(0.0, plan.due_at - context.now.seconds)
    for task in task_messages(plan.message, plan.pending(clients), context.combiner, left):
        context.emit(Publish("task", topology.task_key(task.client), task, expiration=left))


def pass_on(context: CombinerContext, plan: OpenPlan, client: str, report: Progress) -> None:
    """Publishes where a client's validation hangs to the reducer, which awaits the answer."""
    key = topology.update_key(plan.message.reply_to, context.combiner)
    place = Progress(plan=report.plan, fraction=report.fraction, place=report.place, client=client)
    context.emit(Publish("update", key, place, confirm=False))


def send_cancel(context: CombinerContext, client: str, cancel: Cancel) -> None:
    """Publishes to a client that work is no longer wanted. The message is lost if the client is away."""
    context.to_client(client, cancel)


def publish_partial(context: CombinerContext, plan: OpenPlan, partial: Partial) -> None:
    """Answers the plan. A repeated answer has the same id."""
    key = topology.update_key(plan.message.reply_to, context.combiner)
    context.emit(Publish("update", key, partial, id=f"partial-{plan.name}-{context.combiner}"))
