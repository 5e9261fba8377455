"""Deletes members that are away, on request. Pure."""

from __future__ import annotations

from fedmq.runtime.effects import Ack, DeleteQueue, Effect, Now, PublishEvent, Received
from fedmq_reducer.members.membership import Membership
from fedmq_reducer.operations import ForgetMember
from fedmq_schemas import records as tables
from fedmq_schemas.messages import ForgetMemberRequest


def forget(members: Membership, event: Received, body: ForgetMemberRequest, term: int, now: Now) -> list[Effect]:
    """Deletes the record and the queue of a client or combiner that is away, and publishes that.

    Refuses a member that is present or may be registering. A request that is delivered twice deletes nothing more.
    """
    name, data = body.name, {"reason": f"asked for by {event.envelope.sender}"}
    if body.member == "client":
        fault = members.forget_client(name, now)
        deleted = ForgetMember(tables.CLIENTS, "client", name, term)
        queue = members.topology.client(name)
        published = PublishEvent("client.forgotten", client=name, data=data)
    else:
        fault = members.forget_combiner(name)
        deleted = ForgetMember(tables.COMBINERS, "combiner", name, term)
        queue = members.topology.combiner(name)
        published = PublishEvent("combiner.forgotten", combiner=name, data=data)
    if fault:
        return [PublishEvent("message.refused", data={"reason": fault}), Ack((event.tag,))]
    return [deleted, *map(DeleteQueue, queue.names), published, Ack((event.tag,))]
