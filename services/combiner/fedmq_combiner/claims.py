"""Checks what a client claims in its messages: the weight of an update, and that it holds a task. Pure."""

from __future__ import annotations

from fedmq_combiner.plans import OpenPlan
from fedmq_schemas.keys import upload_prefix
from fedmq_schemas.messages import Plan, Update
from fedmq_schemas.policy import weight_objection


def update_objection(plan: Plan, client: str, update: Update) -> str | None:
    """Returns why an update is rejected before its blob is read, or None.

    A client may name only a blob that it has uploaded itself, and weigh no more than the policy allows.
    """
    prefix = upload_prefix(update.plan.session, update.plan.round, client)
    if not update.blob.key.startswith(prefix):
        return f"its blob {update.blob.key!r} is not under {prefix!r}"
    return weight_objection(plan.weighting, plan.max_weight, update.weight)


def holds_task(plan: OpenPlan | None, client: str) -> bool:
    """Returns whether the client has a task in the plan. A plan that is being opened may not know its clients yet."""
    return plan is not None and (client in plan.tasks or client in plan.message.clients)
