"""The tables and documents of the record store, which readers may rely on.

Times are in UTC seconds since 1970. Only reducers write. Documents of older versions stay readable: absent fields take
their defaults, and unknown fields are ignored.
"""

from fedmq_schemas.ledgers import OUTCOMES, Ledger, LedgerEntry, Outcome, count_outcomes
from fedmq_schemas.records.base import Change, Record
from fedmq_schemas.records.events import EVENT_NAMES, EventRecord, event_document
from fedmq_schemas.records.members import ClientRecord, CombinerRecord, SystemRecord
from fedmq_schemas.records.models import (
    ModelChange,
    ModelRecord,
    SummaryRecord,
    ValidationRecord,
    ValidationRequest,
    WindowRecord,
    is_kept,
    requested_of,
)
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
    WINDOWS,
    SessionState,
)

__all__ = [
    "ATTEMPTS",
    "CLIENTS",
    "COMBINERS",
    "ENDED",
    "EVENTS",
    "EVENT_NAMES",
    "INDEXES",
    "MODELS",
    "OUTCOMES",
    "PARTIALS",
    "PARTICIPATION",
    "ROUNDS",
    "SESSIONS",
    "SUMMARIES",
    "SYSTEM",
    "TABLES",
    "VALIDATIONS",
    "WINDOWS",
    "AttemptRecord",
    "Change",
    "ClientRecord",
    "CombinerRecord",
    "EventRecord",
    "Ledger",
    "LedgerEntry",
    "ModelChange",
    "ModelRecord",
    "Outcome",
    "PartialRecord",
    "Participation",
    "PlannedPartRecord",
    "Record",
    "RoundRecord",
    "Score",
    "SessionChange",
    "SessionEnd",
    "SessionRecord",
    "SessionState",
    "SummaryRecord",
    "SystemRecord",
    "ValidationRecord",
    "ValidationRequest",
    "WindowRecord",
    "count_outcomes",
    "event_document",
    "is_kept",
    "requested_of",
]
