"""Which course a session takes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.session import Session
from fedmq_reducer.sessions.synchronous import synchronous
from fedmq_schemas.policy import Policy

Schedule = Callable[[ReducerContext, Session], Coroutine[object, Any, str]]
"""A course from the first model to the last. It starts from whatever `resuming` has made of the records, and returns why
the session is finished early, or an empty text."""


def schedule_for(policy: Policy) -> Schedule:
    """Returns the course that the policy asks for. All sessions are synchronous; another course is another case here."""
    return synchronous
