"""The combiner's decisions. Pure.

A combiner gives each client of a plan its task, folds each update as it arrives, and answers the plan with one partial once
all clients have answered or the deadline has passed. Two rules carry the guarantees:

1. A message that changes a sum stays unacknowledged until a partial or checkpoint that contains it is durable. A combiner
   that was killed registers again and gets its open plans, and the broker delivers the messages again in order.
2. The first accepted update of a task counts. Any other update of the task is discarded, with an event that says why.

`course.py` is the course of a plan from its message to its partial; `answers.py` judges one client's answers. This file
finds the plan of a message, and handles what belongs to no plan: hello and welcome, the reducer's lease term (`epoch` in
messages), and void plans.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedmq.runtime.effects import (
    Ack,
    CoreEvent,
    Done,
    Drained,
    Effect,
    Failed,
    Fired,
    Now,
    Publish,
    PublishEvent,
    ReadsJson,
    Received,
    Reconnected,
    Reject,
    Resubscribe,
    Started,
    StartTimer,
    Stopping,
)
from fedmq.runtime.peers.presence_table import PresenceTable
from fedmq.runtime.watermarks import Watermarks
from fedmq_combiner import answers, course, tickets
from fedmq_combiner.context import CombinerContext
from fedmq_combiner.members.presence import BEAT, Presence
from fedmq_combiner.operations import Drop
from fedmq_combiner.plans import ClientAnswer, OpenPlan, PlanState
from fedmq_schemas import messages, topology
from fedmq_schemas.keys import event_id
from fedmq_schemas.messages import Cancel, Decline, Plan, PlanKey, Update, UploadRequest

HELLO_AGAIN = 2.0


class CombinerCore:
    """A combiner. `presence`: seconds between heartbeats. `hold_at_most`: held messages that cause a checkpoint."""

    def __init__(self, combiner: str, *, presence: float = 10.0, hold_at_most: int = 5_000) -> None:
        self._context = CombinerContext(combiner, hold_at_most)
        self._period = presence
        self._presence = Presence(combiner, PresenceTable(presence))
        self._plans: dict[str, OpenPlan] = {}
        self._early: list[ClientAnswer] = []
        self._served: dict[str, set[str]] = {}
        self._watermarks = Watermarks()
        self._term = 0
        self._incarnation = 0
        self._is_served = False
        self._is_welcomed = False
        self._hello_at = 0.0
        self._broken_at: float | None = None

    @property
    def clients(self) -> int:
        """Returns how many clients the combiner receives messages from."""
        return self._presence.count

    @property
    def is_welcomed(self) -> bool:
        """Returns whether a reducer has answered the hello of this connection."""
        return self._is_welcomed

    def has_tickets(self, client: str) -> bool:
        """Returns whether the client requests tickets for its uploads. One that has not sent a hello yet is supposed to."""
        return client not in self._context.without_tickets

    @property
    def open_plans(self) -> int:
        """Returns how many plans are neither answered nor void."""
        return sum(plan.is_under_way for plan in list(self._plans.values()))

    @property
    def is_registered(self) -> bool:
        """Returns whether the broker serves this process, and a reducer has sent its open plans."""
        return self._is_served and self._is_welcomed

    def waits(self) -> list[str]:
        """Returns for each plan under way its key, where in the code its course stands, and what it waits for."""
        plans = [plan for plan in list(self._plans.values()) if plan.is_under_way]
        return [f"{plan.name}: {plan.course.where()}" for plan in plans]

    def handle(self, event: CoreEvent, now: Now) -> Sequence[Effect]:
        """Returns the effects that answer an event.

        After an exception, which is a bug, the event has no effects and all plans are suspended. At the next heartbeat the
        combiner starts over, as after a lost connection.
        """
        self._context.now = now
        try:
            if self._broken_at is None:
                self._handle(event)
            else:
                self._handle_broken(event, self._broken_at)
        except Exception:
            self._context.take_effects()
            self._broken_at = now.seconds
            raise
        return self._context.take_effects()

    def _handle(self, event: CoreEvent) -> None:
        match event:
            case Received():
                if not self._is_served:
                    self._begin()
                self._received(event)
            case Done():
                self._context.answer(event)
            case Failed(effect=Publish(body=messages.CombinerHello())):
                self._context.emit(StartTimer("hello", HELLO_AGAIN))  # there has been no reducer yet
            case Failed():
                self._context.answer(event)
            case Fired(key):
                self._fired(key)
            case Started() | Reconnected():
                self._start_over()
            case Stopping():
                self._context.emit(*self._presence.leave(), Drained())

    # -- hello, and starting over -----------------------------------------------------------------------------------

    def _handle_broken(self, event: CoreEvent, since: float) -> None:
        """Starts over at the next heartbeat. Waits two periods at most, in case the bug has cost the heartbeat's timer."""
        is_over = event == Fired(BEAT) or self._context.now.seconds >= since + 2 * self._period
        if isinstance(event, Started | Reconnected | Stopping):
            self._handle(event)
        elif is_over:
            self._context.emit(Resubscribe())
            self._start_over()

    def _start_over(self) -> None:
        """Registers, and forgets open plans. The broker and the reducer deliver messages and plans again."""
        for name, plan in list(self._plans.items()):
            if plan.is_under_way:
                plan.stop()
                self._context.emit(*plan.cancel_timers(), Drop(name, plan.incarnation))
                del self._plans[name]
        self._incarnation += 1
        self._early.clear()
        self._is_served = self._is_welcomed = False
        self._broken_at = None
        self._context.emit(*self._presence.start())
        self._say_hello()

    def _say_hello(self) -> None:
        self._hello_at = self._context.now.seconds
        key = topology.assignment_request_key(self._context.combiner)
        self._context.emit(Publish("assignment", key, messages.CombinerHello()))

    def _begin(self) -> None:
        """Notes that the broker serves this process, and no other of the same name.

        Until the first message after a hello, the broker may have served another process, which then received the answer to
        the hello. If that may have happened, the combiner registers again at once. Else a late copy of that answer would
        count, although this process has received none of its open plans.
        """
        self._is_served = True
        if self._context.now.seconds - self._hello_at > HELLO_AGAIN:
            self._say_hello()
        self._context.emit(*self._presence.listen(self._context.now), StartTimer("hello", HELLO_AGAIN))

    def _fired(self, key: str) -> None:
        kind, _, name = key.partition(":")
        if kind == "presence":
            self._context.emit(*self._presence.fired(key, self._context.now))
        elif kind == "hello":
            if not self._is_welcomed:
                self._say_hello()
        elif (plan := self._plans.get(name)) is not None:
            plan.is_due |= kind == "deadline"
            plan.is_save_due |= kind == "save" and bool(plan.held)
            plan.advance()

    # -- messages ---------------------------------------------------------------------------------------------------

    def _received(self, event: Received) -> None:
        context, presence, sender = self._context, self._presence, event.envelope.sender
        match event.body:
            case Update() | Decline() as body:
                context.emit(*presence.note_answer(sender, context.now))
                self._answered(ClientAnswer(sender, body, event.tag, event.envelope.sent_at))
            case UploadRequest() as body:
                context.emit(*presence.note_answer(sender, context.now))
                request = ClientAnswer(sender, body, event.tag, event.envelope.sent_at)
                tickets.answer(context, self._plans.get(str(body.plan)), request, self._is_welcomed)
            case Plan() as body:
                self._planned(body, Ack((event.tag,)))
            case messages.ClientPresence(leaving=True, reassigned=is_moved, instance=instance):
                has_left = context.instances.leave(sender, instance)
                forget = presence.release if is_moved else presence.forget
                context.emit(Ack((event.tag,)), *(forget(sender) if has_left else ()))
            case messages.ClientPresence(instance=instance):
                context.emit(Ack((event.tag,)), *presence.note(sender, context.now))
                self._note_instance(sender, instance)
            case messages.ClientHello(instance=instance, tickets=has_tickets):
                context.emit(*presence.greet(sender, context.now))
                self._note_instance(sender, instance)
                (context.without_tickets.discard if has_tickets else context.without_tickets.add)(sender)
                for plan in self._plans.values():
                    if plan.state in (PlanState.OPEN, PlanState.SAVING):
                        course.send_tasks(context, plan, [sender])
                context.emit(Ack((event.tag,)))
            case messages.Progress() as body:
                context.emit(Ack((event.tag,)), *presence.note_answer(sender, context.now))
                self._progressed(sender, body)
            case messages.VoidPlan() as body:
                self._voided(body)
                context.emit(Ack((event.tag,)))
            case messages.Welcome(epoch=epoch):
                self._welcomed(epoch, Ack((event.tag,)))
            case body:
                context.emit(Reject(event.tag, f"a combiner does not receive {body.kind} messages"))

    def _progressed(self, client: str, body: messages.Progress) -> None:
        """Publishes a client's progress, unless the client has no such task: then it is late, or made up.

        A combiner that has started over does not know its plans until the reducer has sent them.
        """
        plan = self._plans.get(str(body.plan))
        if plan is not None and body.place and client in plan.tasks and body.place != plan.tasks[client].place:
            plan.tasks[client].place = body.place
            if not plan.is_training:
                course.pass_on(self._context, plan, client, body)
        if not self._is_welcomed if plan is None else plan.may_have_task(client):
            data = {"fraction": body.fraction, "metrics": body.metrics}
            self._context.publish_event("task.progress", body.plan, client, data)

    def _note_instance(self, client: str, instance: str) -> None:
        """Publishes that two processes work under the client's name. Two copies, as the two share a mailbox."""
        found = self._context.instances.note(client, instance)
        if found is not None:
            reason = (
                f"two processes work as client {client}: instance {found.continues} continues, {found.other} is to end"
            )
            data = {"instances": list(found), "continues": found.continues, "reason": reason}
            event = event_id(f"duplicate-{client}-{found.continues}-{found.other}")
            self._context.emit(
                PublishEvent("client.duplicate", client=client, combiner=self._context.combiner, data=data, id=event)
            )
            body = messages.DuplicateClient(continues=found.continues, other=found.other)
            self._context.to_client(client, body)
            self._context.to_client(client, body)

    def _answered(self, answer: ClientAnswer) -> None:
        """Hands an answer to its plan. Keeps it if the plan may still arrive: until the reducer has sent all open plans."""
        plan = self._plans.get(str(answer.body.plan))
        if plan is not None:
            answers.receive(self._context, plan, answer)
        elif self._is_welcomed:
            answers.discard(self._context, answer, "superseded: no such plan is open here")
        else:
            self._early.append(answer)

    def _welcomed(self, epoch: int, acknowledge: Ack) -> None:
        self._term = max(self._term, epoch)
        self._is_welcomed = True
        self._context.emit(acknowledge, *self._presence.full(self._context.now))
        early, self._early = self._early, []
        for answer in early:
            self._answered(answer)

    # -- plans ------------------------------------------------------------------------------------------------------

    def _planned(self, message: Plan, acknowledge: Ack) -> None:
        context, key, name = self._context, message.plan, str(message.plan)
        if message.epoch < self._term:
            context.emit(acknowledge)
            self._reject_plan(message, f"the plan's epoch {message.epoch} has ended: epoch {self._term} is current")
            return
        self._term = message.epoch
        if message.json_readers:
            context.emit(ReadsJson(message.json_readers))
        known = self._plans.get(name)
        if known is not None:
            if known.state is PlanState.CLOSED and known.partial is not None:
                course.publish_partial(context, known, known.partial)
            context.emit(acknowledge)
        elif self._watermarks.is_superseded(key.session, (key.round, key.attempt) if key.action == "train" else ()):
            context.emit(acknowledge)
            self._reject_plan(message, "the plan's session has ended or has moved to a later round")
        else:
            self._drop_older(key)
            context.emit(StartTimer(f"deadline:{name}", message.timeout), acknowledge)
            self._plans[name] = course.start(context, message, self._incarnation)

    def _reject_plan(self, message: Plan, reason: str) -> None:
        data = {"reason": reason, "plan": str(message.plan)}
        self._context.publish_event("plan.voided", message.plan, data=data)

    def _drop_older(self, key: PlanKey) -> None:
        """Forgets answered and void plans of earlier rounds, except their clients, which receive the session's end."""
        for name, older in list(self._plans.items()):
            is_older = older.key.session == key.session and older.key.round < key.round
            if is_older and not older.is_under_way:
                self._served.setdefault(key.session, set()).update(older.tasks)
                del self._plans[name]

    def _voided(self, message: messages.VoidPlan) -> None:
        """Gives up the plans that the message names, or all plans of a session that has ended."""
        if message.epoch < self._term:
            return
        self._term = message.epoch
        names = {str(key) for key in message.plans}
        for name, plan in list(self._plans.items()):
            if name in names and plan.key.session != message.session:
                self._void(plan)
        if message.session is not None:
            self._end_session(message.session)

    def _void(self, plan: OpenPlan) -> None:
        pending = plan.pending(plan.tasks)
        self._give_up(plan)
        for client in pending:
            course.send_cancel(self._context, client, Cancel(plan=plan.key))

    def _end_session(self, session: str) -> None:
        self._watermarks.end(session)
        clients = self._served.pop(session, set())
        for name, plan in list(self._plans.items()):
            if plan.key.session == session:
                self._give_up(plan)
                clients.update(plan.tasks)
                del self._plans[name]
        for client in sorted(clients):
            course.send_cancel(self._context, client, Cancel(plan=PlanKey(session=session, round=0), session_over=True))

    def _give_up(self, plan: OpenPlan) -> None:
        if plan.state is not PlanState.VOID:
            plan.stop()
            course.void(self._context, plan)
