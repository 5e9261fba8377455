"""Answers the requests of clients to upload an update. Pure.

A ticket permits the announced bytes and no others, under a key that follows from plan, client and hash. So a request may be
repeated, and a ticket that is used again changes nothing. `TicketWriter` signs the URL when the ticket is sent.
"""

from __future__ import annotations

from fedmq.runtime.effects import Ack, Publish
from fedmq_combiner import answers
from fedmq_combiner.context import CombinerContext
from fedmq_combiner.plans import MOST_CONTENTS, ClientAnswer, OpenPlan, PlanState
from fedmq_schemas import keys, topology
from fedmq_schemas.messages import BlobRef, Ticket, UploadRequest

TICKET_SECONDS = 300.0
"""Seconds for which the URL of a ticket is valid. An upload that has not begun in this time needs another ticket."""


def answer(context: CombinerContext, plan: OpenPlan | None, request: ClientAnswer, is_welcomed: bool) -> None:
    """Publishes a ticket, or one with the reason of a refusal.

    A request for a plan that is not open yet is only acknowledged: its task is sent once the plan is open, and the client
    then repeats the request. An update that is too large gives the task its outcome.
    """
    body = request.body
    assert isinstance(body, UploadRequest)
    if plan.state is PlanState.OPENING if plan is not None else not is_welcomed:
        context.emit(Ack((request.tag,)))
    elif plan is None:
        refuse(context, request.client, body, "superseded: no such plan is open here")
        answers.discard(context, request, "superseded: no such plan is open here")
    elif (objection := plan.objection(request)) is not None:
        refuse(context, request.client, body, objection)
        answers.discard(context, request, objection)
    elif (reason := plan.rejection(request.client, body)) is not None:
        refuse(context, request.client, body, reason)
        answers.receive(context, plan, request)
    elif not plan.permit(request.client, body.sha256):
        reason = f"tickets for {MOST_CONTENTS} other updates of this task were sent: no further one is"
        refuse(context, request.client, body, reason)
        answers.discard(context, request, reason)
    else:
        key = plan.upload_key(request.client, body.sha256)
        _publish(context, request.client, body, key)
        context.emit(Ack((request.tag,)))


def refuse(context: CombinerContext, client: str, request: UploadRequest, reason: str) -> None:
    """Publishes why there is no ticket, so that the client does not wait for one."""
    key = keys.update_blob(request.plan.session, request.plan.round, client, request.sha256)
    _publish(context, client, request, key, reason)


def _publish(context: CombinerContext, client: str, request: UploadRequest, key: str, reason: str = "") -> None:
    blob = BlobRef(key=key, size=request.size, sha256=request.sha256)
    ticket = Ticket(plan=request.plan, blob=blob, reason=reason)
    context.emit(Publish("task", topology.task_key(client), ticket, expiration=TICKET_SECONDS))
