"""What the record store holds: names and shapes that readers may rely on.

Times are UTC seconds since 1970. Only reducers write. A document that an older version has written loads: a field that it
lacks has its default, and unknown fields are ignored.
"""

from fedmq_schemas.ledgers import OUTCOMES, Ledger, LedgerEntry, Outcome, count_outcomes
from fedmq_schemas.records.base import Change, Record
from fedmq_schemas.records.events import EVENT_NAMES, EventRecord, event_document
from fedmq_schemas.records.members import ClientRecord, CombinerRecord, SystemRecord
from fedmq_schemas.records.models import ModelChange, ModelRecord, SummaryRecord, ValidationRecord, is_kept
from fedmq_schemas.records.rounds import AttemptRecord, PartialRecord, Participation, PlannedPartRecord, RoundRecord
from fedmq_schemas.records.sessions import Score, SessionChange, SessionEnd, SessionRecord
from fedmq_schemas.records.tables import (
    ATTEMPTS,
    CLIENTS,
    COMBINERS,
    ENDED,
    EVENTS,
    INDEXES,
    MODELS,
    PARTIALS,
    PARTICIPATION,
    ROUNDS,
    SESSIONS,
    SUMMARIES,
    SYSTEM,
    TABLES,
    VALIDATIONS,
    SessionState,
)

__all__ = [
    "ATTEMPTS",
    "AttemptRecord",
    "CLIENTS",
    "COMBINERS",
    "Change",
    "ClientRecord",
    "CombinerRecord",
    "ENDED",
    "EVENTS",
    "EVENT_NAMES",
    "EventRecord",
    "INDEXES",
    "Ledger",
    "LedgerEntry",
    "MODELS",
    "ModelChange",
    "ModelRecord",
    "OUTCOMES",
    "Outcome",
    "PARTIALS",
    "PARTICIPATION",
    "PartialRecord",
    "Participation",
    "PlannedPartRecord",
    "ROUNDS",
    "Record",
    "RoundRecord",
    "SESSIONS",
    "SUMMARIES",
    "SYSTEM",
    "Score",
    "SessionChange",
    "SessionEnd",
    "SessionRecord",
    "SessionState",
    "SummaryRecord",
    "SystemRecord",
    "TABLES",
    "VALIDATIONS",
    "ValidationRecord",
    "count_outcomes",
    "event_document",
    "is_kept",
]
