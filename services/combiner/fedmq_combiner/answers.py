"""Judges the answers of clients: the first valid one counts, others are discarded with an event. Pure."""

from __future__ import annotations

from fedmq.errors import FedMQError
from fedmq.runtime.effects import Ack, StartTimer
from fedmq.runtime.routines import Routine
from fedmq_combiner.context import CombinerContext
from fedmq_combiner.documents import ledger_entry
from fedmq_combiner.operations import Fold
from fedmq_combiner.plans import ClientAnswer, OpenPlan, PlanState, Verdict
from fedmq_schemas.messages import Decline, Update

SAVE_AFTER = 600.0
"""Seconds after which a message that is held causes a checkpoint."""


def receive(context: CombinerContext, plan: OpenPlan, answer: ClientAnswer) -> None:
    """Judges an answer to a task of this plan, or keeps it.

    It is kept until the plan is open, until the plan's checkpoint is written, or until an earlier answer of the client has a
    verdict.
    """
    if plan.state in (PlanState.OPENING, PlanState.SAVING):
        plan.early.append(answer)
        return
    objection = plan.objection(answer)
    if objection is not None:
        discard(context, answer, objection)
        return
    plan.tasks[answer.client].answers.append(answer)
    if answer.client not in plan.judging:
        routine = plan.judging[answer.client] = Routine(context, judge(context, plan, answer.client))
        routine.start()


def receive_early(context: CombinerContext, plan: OpenPlan) -> None:
    """Judges the answers that waited for the plan. It may be complete afterwards."""
    for answer in plan.take_early():
        receive(context, plan, answer)
    plan.close_if_complete()


async def judge(context: CombinerContext, plan: OpenPlan, client: str) -> None:
    """Gives a client's task its outcome. Later answers are judged only if those before them are invalid."""
    answers = plan.tasks[client].answers
    while answers:
        answer, body, began = answers[0], answers[0].body, context.now.seconds
        if isinstance(body, Decline):
            verdict = Verdict(body.outcome, body.reason, traceback=body.traceback)
        elif (reason := plan.rejection(client, body)) is not None:
            verdict = Verdict("rejected", reason)
        else:
            assert isinstance(body, Update)  # a request is an answer only if it is refused
            plan.folding += 1
            try:
                folded = await context.ask(Fold(plan.name, plan.incarnation, client, body.blob, body.weight))
                verdict = Verdict("accepted", norm=folded.norm, blob=folded.blob)
            except FedMQError as error:
                verdict = Verdict("rejected", error.reason)
            plan.folding -= 1

        answers.pop(0)
        if verdict.outcome == "rejected" and answers:
            discard(context, answer, f"rejected ({verdict.reason}), another update of the task is looked at")
        else:
            _settle(context, plan, answer, verdict, context.now.seconds - began)

        if plan.state is PlanState.SAVING:  # the outcome has caused a checkpoint, during which nothing is folded
            plan.early += answers
            answers.clear()
        while answers and (objection := plan.objection(answers[0])) is not None:
            discard(context, answers.pop(0), objection)
    del plan.judging[client]


def discard(context: CombinerContext, answer: ClientAnswer, reason: str) -> None:
    """Publishes why an answer does not count, and acknowledges it."""
    context.publish_event("update.discarded", answer.body.plan, answer.client, {"reason": reason})
    if not isinstance(answer.body, Decline):
        context.report_outcome(answer.client, answer.body.plan, "discarded", reason)
    context.emit(Ack((answer.tag,)))


def _settle(context: CombinerContext, plan: OpenPlan, answer: ClientAnswer, verdict: Verdict, fold: float) -> None:
    """Gives the task its outcome, and holds the answer until the outcome is durable. `fold`: seconds of folding."""
    body = answer.body
    data: dict[str, object] = {"reason": verdict.reason, "traceback": verdict.traceback} if verdict.reason else {}
    seconds: dict[str, float] = {}
    if isinstance(body, Update):
        seconds = {**body.seconds, "fold": fold, "transit": context.now.wall - answer.sent_at - fold}
        data |= {"weight": body.weight, "norm": verdict.norm, "metrics": body.metrics, "seconds": seconds}
        if body.notes:
            data["notes"] = list(body.notes)
        if body.personal is not None:
            data["personal"] = body.personal.model_dump()
    plan.settle(ledger_entry(answer, verdict, seconds, context.now.wall))
    if not plan.held:
        context.emit(StartTimer(plan.save_timer, SAVE_AFTER))
    plan.held.append(answer.tag)
    context.publish_event(f"update.{verdict.outcome}", plan.key, answer.client, data)
    if verdict.outcome in ("accepted", "rejected"):
        context.report_outcome(answer.client, plan.key, verdict.outcome, verdict.reason)
    plan.advance()
