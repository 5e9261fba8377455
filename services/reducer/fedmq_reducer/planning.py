"""Plans as messages: what a combiner is sent for its part of an attempt, or of a validation. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from fedmq.effects import Effect, Publish, PublishEvent
from fedmq_reducer.assignment import Assignment
from fedmq_reducer.operations import PutBlob
from fedmq_reducer.session import PlannedPart, Session
from fedmq_schemas import messages, topology
from fedmq_schemas.messages import MAX_LISTED_CLIENTS, BlobRef, PlanKey


@dataclass(slots=True)
class Desk:
    """What all of a reducer's decisions stand on: who is there, and the epoch that it decides in."""

    assignment: Assignment
    epoch: int = 0


def send_plan(
    desk: Desk,
    session: Session,
    key: PlanKey,
    combiner: str,
    clients: tuple[str, ...],
    model: BlobRef,
    timeout: float,
) -> list[Effect]:
    """The plan's message; a list of more than 500 clients goes ahead of it as a blob."""
    effects: list[Effect] = []
    listed, reference = clients, None
    if len(clients) > MAX_LISTED_CLIENTS:
        data = json.dumps(clients).encode()
        blob = f"updates/{key.session}/{key.round:06d}/clients-{key.action}-{key.attempt}-{key.part}.json"
        reference = BlobRef(key=blob, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        effects.append(PutBlob(blob, data))
        listed = ()
    plan = messages.Plan(
        plan=key,
        epoch=desk.epoch,
        reply_to=topology.REDUCER,
        clients=listed,
        clients_ref=reference,
        model=model,
        base=session.base,
        exponents=session.exponents if key.action == "train" else (),
        timeout=timeout,
        rounds=session.policy.rounds,
        random_seed=session.random_seed,
        config=session.policy.config(max(1, key.round)),
        weighting=session.policy.weighting,
        validate_model=session.policy.validation == "with_training" and not session.was_scored_by_clients,
        clip_norm=session.policy.update.clip_norm,
        max_norm=session.policy.update.max_norm,
    )
    effects.append(Publish("task", topology.plan_key(combiner), plan, id=f"plan-{key}-{combiner}-{desk.epoch}"))
    return effects


def void_part(desk: Desk, part: PlannedPart, reason: str) -> list[Effect]:
    """Voids a part; the caller records it before these effects start."""
    part.voided = True
    void = messages.VoidPlan(epoch=desk.epoch, plans=(part.key,))
    data = {"reason": reason, "plan": str(part.key)}
    return [
        Publish("task", topology.plan_key(part.combiner), void),
        PublishEvent("plan.voided", part.key.session, part.key.round, None, part.combiner, data),
    ]
