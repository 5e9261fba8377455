"""A step of a core as one line of text, for reading what happened in a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedmq.runtime.effects import CoreEvent, Effect, PublishEvent


def line(event: CoreEvent, answer: Sequence[Effect]) -> str:
    return f"{_event(event)} -> {', '.join(_effect(effect) for effect in answer)}"


def _event(event: Any) -> str:
    if hasattr(event, "body"):
        return f"{event.body.kind} {getattr(event.body, 'plan', '')} from {event.envelope.sender}"
    words = [type(event).__name__, getattr(event, "key", "")]
    if hasattr(event, "effect"):
        words.append(_effect(event.effect))
    if hasattr(event, "error"):
        words.append(repr(event.error))
    return " ".join(str(word) for word in words if word)


def _effect(effect: Any) -> str:
    if isinstance(effect, PublishEvent):
        return f"PublishEvent {effect.name} {effect.data.get('reason', '')}".strip()
    if hasattr(effect, "body"):
        return f"Publish({effect.body.kind} {getattr(effect.body, 'plan', '')} {effect.routing_key})"
    known = [getattr(effect, name, "") for name in ("table", "key", "seconds")]
    return f"{type(effect).__name__}({' '.join(str(word) for word in known if word)})"
