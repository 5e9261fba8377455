"""Checks what a client claims in a validation: that it has such a task, and of which model, scope and weight it is. Pure.

A reducer that takes over knows from the records whom a session has requested, unless an earlier version ran it. Then a
validation counts if the policy lets the client do such a task. What is claimed of a session that has ended is checked
against its records (`RecordLateValidation`).
"""

from __future__ import annotations

from fedmq_reducer.members.client_member import ClientMember
from fedmq_reducer.members.eligibility import ineligible_because
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.session import Session
from fedmq_schemas.keys import committed_model, model_id
from fedmq_schemas.messages import Validation
from fedmq_schemas.policy import Policy, weight_objection


def validation_objection(context: ReducerContext, session: Session | None, client: str, body: Validation) -> str | None:
    """Returns why a validation does not count, or None. `session`: None if it is not open."""
    member = context.members.clients.get(client)
    if member is None:
        return f"{client!r} is no client of this alliance"
    if body.scope == "test" and "train" in member.tasks:
        return f"its scope is test, and client {client!r} trains: only an evaluator has a common test set"
    return _open_objection(session, member, body) if session is not None else None


def _open_objection(session: Session, member: ClientMember, body: Validation) -> str | None:
    if not _is_model_of(session, body):
        return f"model {body.model!r} is not what plan {body.plan} validates"
    if not _may_hold(session, member, body):
        return f"client {member.name!r} has no task to validate in plan {body.plan}"
    if body.weight is None:
        return None
    return weight_objection(session.policy.weighting, session.policy.max_weight, body.weight)


def _is_model_of(session: Session, body: Validation) -> bool:
    number = body.plan.round if body.plan.action == "validate" else body.plan.round - 1
    window = session.validations.windows.get(number)
    if number == session.round - 1 and session.lineage.model is not None:
        return body.model == session.lineage.model.key
    if window is not None:
        return body.model == window.model.key
    if number == 0:  # after a take-over before the first draw, the model that the session starts from is not known
        return body.model == (session.first_model or body.model)
    return 0 < number < session.round and model_id(body.model).startswith(committed_model(session.name, number, ""))


def _may_hold(session: Session, member: ClientMember, body: Validation) -> bool:
    plan, policy = body.plan, session.policy
    if plan.action == "train" and policy.validation != "with_training":
        return False
    drawn = session.drawn.get(plan.round) if plan.action == "train" else None
    if drawn is not None:
        return member.name in drawn
    window = session.validations.windows.get(plan.round)
    requests = window.requests if plan.action == "validate" and window is not None else ()
    if any(member.name in request.clients for request in requests):
        return True
    return plan.action in member.tasks and validates(policy, member)


def validates(policy: Policy, member: ClientMember) -> bool:
    """Returns whether a policy may give a client tasks to validate: evaluators, and clients where their metrics count."""
    trains = "train" in member.tasks
    is_scorer = not trains or policy.validation != "none" or policy.stop.needs_scores
    eligible = not ineligible_because(policy, member.name, member.labels, member.package, trains)
    return is_scorer and eligible and "validate" in member.tasks
