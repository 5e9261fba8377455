"""Checks what a client claims of a session that has ended, against the records."""

from __future__ import annotations

from pydantic import ValidationError

from fedmq.errors import Refused
from fedmq.records.base import Records
from fedmq_reducer.members.client_member import ClientMember
from fedmq_reducer.sessions.claims import validates
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import ClientRecord, ValidationRecord


def check_late(records: Records, validation: ValidationRecord) -> None:
    """Raises Refused unless the session has this model, and the client can have had a task to validate it.

    That is so if an attempt with the model names the client, or if the session's policy lets the client validate.
    """
    session, number, client = validation.session, validation.round, validation.client
    if validation.model != _model_of(records, session, number):
        raise Refused(f"session {session!r} has made no model {validation.model!r} in round {number}")
    if not (_was_drawn(records, session, number, client) or _may_validate(records, session, client)):
        raise Refused(f"client {client!r} had no task of session {session!r} with the model of round {number}")


def _was_drawn(records: Records, session: str, number: int, client: str) -> bool:
    """Whether the client has helped to make the model of a round, or was to train on it."""
    for drawn in (number, number + 1):
        where = {"session": session, "round": drawn}
        if any(client in plan["clients"] for each in records.find(tables.ATTEMPTS, where) for plan in each["plans"]):
            return True
        if any(client in each["clients"] for each in records.find(tables.PARTICIPATION, where)):
            return True  # of a session whose attempts are deleted
    return False


def _may_validate(records: Records, session: str, client: str) -> bool:
    """Whether the session's policy gives this client tasks to validate: all evaluators, and clients that were not drawn."""
    ended, known = records.get(tables.SESSIONS, session), records.get(tables.CLIENTS, client)
    if ended is None or known is None:
        return False
    try:
        policy, member = Policy.model_validate(ended["policy"]), ClientMember.of(ClientRecord.model_validate(known))
    except ValidationError:
        return False
    return validates(policy, member)


def _model_of(records: Records, session: str, number: int) -> str | None:
    """Returns the id of the model of a round, if the records of the session name it."""
    if number < 0:
        return None
    committed = records.get(tables.ROUNDS, keys.round_record(session, max(1, number)))
    if committed is not None:
        return keys.model_id(committed["model" if number > 0 else "parent"]["key"])
    if number > 0:
        return None
    first = records.find(tables.ATTEMPTS, {"session": session, "round": 1}, limit=1)
    return keys.model_id(first[0]["model"]["key"]) if first else None
