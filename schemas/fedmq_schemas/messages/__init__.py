"""All messages: the envelope, and one frozen, self-validating body per kind.

On the wire, a message is one map: the fields of the envelope, and the body under `body`. The encoding is msgpack, or
JSON where the content type says so. Receivers ignore unknown fields. `version` changes only when an old receiver would
misunderstand a message.

Durations are in seconds, sizes in bytes. `sha256` is lower-case hex. Models, updates and partial sums are safetensors
blobs in the blob store and never cross the broker.
"""

from fedmq_schemas.bounds import MAX_LISTED_CLIENTS, Metrics, Name, Sha256, Weight
from fedmq_schemas.messages.base import MAX_BODY, VERSION, BlobRef, Body, Envelope, Frozen, PlanKey, TaskName
from fedmq_schemas.messages.events import BatchedEvent, Event, Events
from fedmq_schemas.messages.membership import (
    About,
    Attach,
    ClientHello,
    ClientPresence,
    CombinerHello,
    CombinerPresence,
    DuplicateClient,
    Grant,
    Inquiry,
    Stall,
    Wait,
    Welcome,
)
from fedmq_schemas.messages.rounds import (
    Cancel,
    Decline,
    OutcomeReason,
    Partial,
    PersonalStart,
    Plan,
    Progress,
    TaskMessage,
    Ticket,
    Update,
    UpdateOutcome,
    UploadRequest,
    Validation,
    VoidPlan,
)
from fedmq_schemas.messages.sessions import ForgetMemberRequest, ForgetSessionRequest, Start, Stop

# The kinds are the direct subclasses: a `BatchedEvent` derives from `Event`, as it is a part of a message.
BODIES: dict[str, type[Body]] = {body.kind: body for body in Body.__subclasses__()}

__all__ = [
    "BODIES",
    "MAX_BODY",
    "MAX_LISTED_CLIENTS",
    "VERSION",
    "About",
    "Attach",
    "BatchedEvent",
    "BlobRef",
    "Body",
    "Cancel",
    "ClientHello",
    "ClientPresence",
    "CombinerHello",
    "CombinerPresence",
    "Decline",
    "DuplicateClient",
    "Envelope",
    "Event",
    "Events",
    "ForgetMemberRequest",
    "ForgetSessionRequest",
    "Frozen",
    "Grant",
    "Inquiry",
    "Metrics",
    "Name",
    "OutcomeReason",
    "Partial",
    "PersonalStart",
    "Plan",
    "PlanKey",
    "Progress",
    "Sha256",
    "Stall",
    "Start",
    "Stop",
    "TaskMessage",
    "TaskName",
    "Ticket",
    "Update",
    "UpdateOutcome",
    "UploadRequest",
    "Validation",
    "VoidPlan",
    "Wait",
    "Weight",
    "Welcome",
]
