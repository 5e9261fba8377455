"""What the endpoints share: the alliance's stores, and what several endpoints do with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request

from fedmq.blobs.base import Blobs
from fedmq.errors import NotFound, ProtocolError, Refused, Transient
from fedmq.records.base import STORE, Document, Records
from fedmq.runtime.stalls import Stalls, describe
from fedmq.web.access import Access
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
    """The stores of one alliance, and how the API publishes to its reducer.

    - `publish(body, id)`: publishes a control message and returns once the broker has it. Raises Transient if the broker is
      away.
    - `feed`: the events as they are published.
    - `new_id`: makes ids.
    - `scratch`: a folder for seeds that are being uploaded.
    - `access`: who may send requests.
    - `largest_seed`: that may be uploaded, in bytes.
    - `stalls`: what this process waits for.
    """

    alliance: str
    records: Records
    blobs: Blobs
    publish: PublishControl
    feed: EventStream
    new_id: Callable[[], str]
    scratch: Path
    access: Access = field(default_factory=Access)
    largest_seed: int = 2048 << 20
    stalls: Stalls = field(default_factory=lambda: Stalls(time.time))

    def check_records(self) -> None:
        """Raises Transient if the records have not answered for 5 s, as any read would then last until its timeout."""
        stall = self.stalls.unanswered(STORE)
        if stall is not None:
            raise Transient(f"the records can't be read, so nothing is decided: {describe(stall)}")

    def found(self, table: str, key: str, what: str) -> Document:
        """Returns a record. Raises NotFound, which names the missing thing as `what`."""
        document = self.records.get(table, key)
        if document is None:
            raise NotFound(f"there is no {what} {key!r}")
        return document

    def start(self, policy: Policy, session: str | None = None) -> str:
        """Publishes the start message. Returns the session's id, which is also the message's.

        A session whose id is published twice is started once. Raises ConfigError for an unknown strategy, NotFound for an
        unknown seed, Gone for a seed that is no longer kept, and Refused for the id of a forgotten session: a new session
        would adopt its recorded rounds, and combiners that know its end would give up every plan.
        """
        check_strategy(policy.strategy)
        if policy.seed is not None:
            check_kept(self.model(policy.seed))
        if session is not None and self._is_forgotten(session):
            raise Refused(f"session {session!r} was forgotten, and its ledger keeps the name: choose another id")
        session = session or f"s{self.new_id()[:12]}"
        self.publish(Start(policy=policy), session)
        return session

    def _is_forgotten(self, session: str) -> bool:
        if self.records.get(tables.SESSIONS, session) is not None:
            return False
        recorded = {"session": session, "name": "session.forgotten"}
        return self.records.count(tables.ROUNDS, {"session": session}) + self.records.count(tables.EVENTS, recorded) > 0

    def stop(self, session: str, when: Any) -> Document:
        """Publishes the stop message, unless the session has ended. Returns the session's record. Raises NotFound."""
        document = self.found(tables.SESSIONS, session, "session")
        if document["state"] not in tables.ENDED:
            self.publish(Stop(session=session, when=when), self.new_id())
        return document

    def model(self, model: str) -> Document:
        """Returns a model's record, or what is known of a blob that no session has used yet. Raises NotFound."""
        document = self.records.get(tables.MODELS, model)
        if document is not None:
            return document
        try:
            info = self.blobs.stat(keys.model_blob(model))
        except (NotFound, ProtocolError):
            raise NotFound(f"there is no model {model!r}: `fedmq models` lists them") from None
        return unused_model(model, info.size, info.modified)


def unused_model(model: str, size: int, modified: float) -> Document:
    """Returns a blob of bucket `models` in the shape of a record. Its hash is unknown until a session adopts the blob."""
    return {
        "model": model,
        "ref": {"key": keys.model_blob(model), "size": size, "sha256": None},
        "base": None,
        "parent": None,
        "session": None,
        "round": 0,
        "ledger": None,
        "metrics": {},
        "kept": True,
        "created_at": modified,
    }


async def _context_of(request: Request) -> ApiContext:
    context: ApiContext = request.app.state.context
    return context


async def check_records(request: Request) -> None:
    """Raises as `ApiContext.check_records`. A dependency of all endpoints that read the records."""
    request.app.state.context.check_records()


RequestContext = Annotated[ApiContext, Depends(_context_of)]
"""The type of an endpoint's parameter that receives the context."""
