"""Messages of operators: they start and stop sessions, and forget members and sessions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedmq_schemas.bounds import Name
from fedmq_schemas.messages.base import Body
from fedmq_schemas.policy import Policy


class Start(Body):
    """Starts a session (any authorized account → reducer).

    The envelope's id becomes the session's id, so a repeated message starts the session once. Answered by the event
    `session.queued`, or by `session.refused` with the reason.
    """

    kind = "start"
    refusal = "session.refused"
    policy: Policy = Field(default_factory=Policy)


class Stop(Body):
    """Ends a session now, or after the open round (any authorized account → reducer).

    Answered by the event `session.stopped`, or by `message.refused` if no such session is open.
    """

    kind = "stop"
    session: Name
    when: Literal["now", "after_round"] = "now"


class ForgetMemberRequest(Body):
    """Deletes the record and the queue of a client or combiner that is away (any authorized account → reducer).

    Answered by the event `client.forgotten` or `combiner.forgotten`, or by `message.refused` if the member is present
    or may be registering. A forgotten client that attaches again is a new one.
    """

    kind = "forget"
    member: Literal["client", "combiner"]
    name: Name


class ForgetSessionRequest(Body):
    """Deletes what is recorded of an ended session, except its ledger (any authorized account → reducer).

    Answered by the event `session.forgotten`, or by `message.refused` if the session has not ended. Rounds, models,
    participation, validations and summaries stay, and so do their blobs. The REST API starts
    no other session with this name, because it would adopt these rounds.
    """

    kind = "forget_session"
    session: Name
