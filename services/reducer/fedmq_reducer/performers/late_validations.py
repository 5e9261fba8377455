"""Checks what a client claims of a session that has ended, against the records."""

from __future__ import annotations

from fedmq.errors import Refused
from fedmq.records.base import Records
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.records import ValidationRecord


def check_late(records: Records, validation: ValidationRecord) -> None:
    """Raises Refused unless the session has this model, and the client a task in which it received the model.

    A client receives a model in an attempt at the next round, or validates the one that it has helped to make. An evaluator
    is in no attempt, and receives each model.
    """
    session, number, client = validation.session, validation.round, validation.client
    if validation.model != _model_of(records, session, number):
        raise Refused(f"session {session!r} has made no model {validation.model!r} in round {number}")
    if validation.scope == "test":
        return
    for drawn in (number, number + 1):
        where = {"session": session, "round": drawn}
        if any(client in plan["clients"] for each in records.find(tables.ATTEMPTS, where) for plan in each["plans"]):
            return
        if any(client in each["clients"] for each in records.find(tables.PARTICIPATION, where)):
            return  # of a session whose attempts are deleted
    raise Refused(f"client {client!r} had no task of session {session!r} with the model of round {number}")


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
