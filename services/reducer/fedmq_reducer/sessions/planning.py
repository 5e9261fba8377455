"""Publishes plans: what a combiner receives for its part of an attempt or of a validation. Pure."""

from __future__ import annotations

import hashlib
import json

from fedmq.runtime.effects import Publish, PublishEvent
from fedmq_reducer.operations import PutBlob
from fedmq_reducer.sessions.attempt import PlannedPart
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.session import Session
from fedmq_schemas import keys, messages, topology
from fedmq_schemas.messages import MAX_LISTED_CLIENTS, BlobRef


def publish_plan(context: ReducerContext, session: Session, part: PlannedPart, model: BlobRef, timeout: float) -> None:
    """Publishes a part's plan, with `timeout` seconds. A list of more than 500 clients is stored as a blob first."""
    key, clients = part.key, part.clients
    listed, reference = clients, None
    if len(clients) > MAX_LISTED_CLIENTS:
        data = json.dumps(clients).encode()
        blob = keys.clients_blob(key)
        reference = BlobRef(key=blob, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        context.emit(PutBlob(blob, data))
        listed = ()
    plan = messages.Plan(
        plan=key,
        epoch=context.term,
        reply_to=topology.REDUCER,
        clients=listed,
        clients_ref=reference,
        model=model,
        base=session.lineage.base,
        exponents=session.lineage.exponents if key.action == "train" else (),
        timeout=timeout,
        rounds=session.policy.rounds,
        random_seed=session.random_seed,
        config=session.policy.config(max(1, key.round)),
        weighting=session.policy.weighting,
        max_weight=session.policy.max_weight,
        validate_model=session.policy.validation == "with_training" and not session.was_scored_by_clients,
        clip_norm=session.policy.update.clip_norm,
        max_norm=session.policy.update.max_norm,
        rule=session.policy.strategy.rule,
        update=session.policy.update.model_dump(exclude_defaults=True),
        personal=session.policy.personal,
        json_readers=context.members.json_readers(clients)[:MAX_LISTED_CLIENTS],
    )
    message_id = f"plan-{key}-{part.combiner}-{context.term}"
    context.emit(Publish("task", topology.plan_key(part.combiner), plan, id=message_id))


def publish_void(context: ReducerContext, part: PlannedPart, reason: str) -> None:
    """Publishes to its combiner that a part is voided. The record of the attempt must say so already."""
    void = messages.VoidPlan(epoch=context.term, plans=(part.key,))
    data = {"reason": reason, "plan": str(part.key)}
    context.emit(
        Publish("task", topology.plan_key(part.combiner), void),
        PublishEvent("plan.voided", part.key.session, part.key.round, None, part.combiner, data),
    )
