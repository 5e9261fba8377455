"""The step that finds, checks and adopts a session's first model. Pure."""

from __future__ import annotations

from fedmq.runtime.effects import PublishEvent
from fedmq_reducer.operations import ChangeSession, OpenSeed
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.recording import record_standing
from fedmq_reducer.sessions.session import Session, Stage
from fedmq_schemas.records import SessionChange


async def open_seed(context: ReducerContext, session: Session) -> None:
    """Opens and records the policy's model, or raises FedMQError. Announced weights scale the first round's sums."""
    session.stage = Stage.OPENING
    record_standing(context, session)
    policy, lineage = session.policy, session.lineage
    weights = tuple(client.weight for client in session.chosen(context.members.eligible("train")))

    opened = await context.ask(
        OpenSeed(session.name, policy.seed, policy.strategy, weights, policy.tensors, policy.clients_requested)
    )

    lineage.model, lineage.base, lineage.exponents = opened.model, opened.base, opened.exponents
    session.ending.started_at = context.now.wall
    change = SessionChange(seed=opened.seed, base=opened.base, started_at=context.now.wall)
    data = {"seed": opened.seed, "rounds": policy.rounds}
    context.emit(
        ChangeSession(session.name, change, context.term),
        PublishEvent("session.started", session.name, data=data, id=f"started-{session.name}"),
    )
