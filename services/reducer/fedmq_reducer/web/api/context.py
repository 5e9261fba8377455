"""What every endpoint stands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmq.blobs.base import Blobs
from fedmq.errors import NotFound, ProtocolError
from fedmq.records.base import Document, Records
from fedmq_reducer.performers.aggregation_performer import check_strategy
from fedmq_reducer.retention import check_kept
from fedmq_reducer.web.api.feed import EventStream
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Body, Start, Stop
from fedmq_schemas.policy import Policy

PublishControl = Callable[[Body, str], None]


@dataclass(frozen=True, slots=True)
class ApiContext:
    """`publish(body, id)` sends a control message and returns once the broker has it (Transient if it is away).
    `feed`: the events as they come. `new_id`: makes ids. `scratch`: a folder for seeds on their way in.
    `admin_token`: what changes need; None: anybody who reaches the server may. `local_only`: the server is bound to this
    machine, so a request under another host's name is a trick."""

    alliance: str
    records: Records
    blobs: Blobs
    publish: PublishControl
    feed: EventStream
    new_id: Callable[[], str]
    scratch: Path
    admin_token: str | None = None
    local_only: bool = True

    def found(self, table: str, key: str, what: str) -> Document:
        """The document, or NotFound that says `what` is not there."""
        document = self.records.get(table, key)
        if document is None:
            raise NotFound(f"there is no {what} {key!r}")
        return document

    def start(self, policy: Policy, session: str | None = None) -> str:
        """Publishes the start message; returns the session's id, which is also the message's. The same id twice starts
        once. Raises ConfigError for an unknown strategy, NotFound for an unknown seed, Gone for one that was let go."""
        check_strategy(policy.strategy.name, policy.strategy.parameters)
        if policy.seed is not None:
            check_kept(self.model(policy.seed))
        session = session or f"s{self.new_id()[:12]}"
        self.publish(Start(policy=policy), session)
        return session

    def stop(self, session: str, when: Any) -> Document:
        """Publishes the stop message, unless the session has ended. Raises NotFound."""
        document = self.found(tables.SESSIONS, session, "session")
        if document["state"] not in tables.ENDED:
            self.publish(Stop(session=session, when=when), self.new_id())
        return document

    def model(self, model: str) -> Document:
        """A model's record; for a blob in bucket `models` that no session has used yet, what is known of it."""
        document = self.records.get(tables.MODELS, model)
        if document is not None:
            return document
        try:
            info = self.blobs.stat(keys.model_blob(model))
        except (NotFound, ProtocolError):
            raise NotFound(f"there is no model {model!r}: `fedmq models` lists them") from None
        return unused_model(model, info.size, info.modified)


def unused_model(model: str, size: int, modified: float) -> Document:
    """A blob of bucket `models` in the shape of a record; its hash is not known before a session adopts it."""
    ref = {"key": keys.model_blob(model), "size": size, "sha256": None}
    return {
        "model": model, "ref": ref, "base": None, "parent": None, "session": None, "round": 0, "ledger": None, "metrics": {},
        "kept": True, "created_at": modified,
    }  # fmt: skip
