"""Which session an event belongs to. Pure."""

from __future__ import annotations

from fedmq.codec import name_from_id
from fedmq.runtime.effects import CoreEvent, Done, Effect, Failed, Fired, Publish, Received
from fedmq_schemas import messages


def session_of(event: CoreEvent) -> str | None:
    """Returns the name of the session that the event belongs to, open or not; None if it belongs to none."""
    match event:
        case Done(effect=effect) | Failed(effect=effect):
            return _session_of_effect(effect)
        case Received(body=messages.Partial(plan=plan) | messages.Validation(plan=plan) | messages.Progress(plan=plan)):
            return plan.session
        case Received(body=messages.Start(), envelope=envelope):
            return name_from_id(envelope.id)
        case Received(body=messages.Stop(session=name)) | Received(body=messages.ForgetSessionRequest(session=name)):
            return name
        case Fired(key=key):
            return key.partition(":")[2] or None
    return None


def _session_of_effect(effect: Effect) -> str | None:
    if isinstance(effect, Publish):
        return effect.body.plan.session if isinstance(effect.body, messages.Plan) else None
    named = getattr(effect, "record", effect)
    session: str | None = getattr(named, "session", None)
    return session
