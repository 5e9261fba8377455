"""What an active reducer does with each message. Pure."""

from __future__ import annotations

from fedmq.codec import name_from_id
from fedmq.runtime.effects import Ack, Publish, Received, Reject
from fedmq_reducer.members.forgetting import forget
from fedmq_reducer.members.membership import Membership
from fedmq_reducer.operations import CheckLease
from fedmq_reducer.sessions import windows
from fedmq_reducer.sessions.claims import validation_objection
from fedmq_reducer.sessions.context import ReducerContext
from fedmq_reducer.sessions.queue import Sessions
from fedmq_schemas import messages, topology


class Inbox:
    """Passes each message to the sessions or the members. `presence`: seconds between heartbeats."""

    def __init__(self, context: ReducerContext, members: Membership, sessions: Sessions, presence: float) -> None:
        self._context = context
        self._members = members
        self._sessions = sessions
        self._presence = presence

    def received(self, event: Received) -> None:
        """Answers a message, or rejects it."""
        context, body, sender = self._context, event.body, event.envelope.sender
        match body:
            case messages.Partial():
                self._sessions.partial(event, body)
            case messages.Validation():
                self._validation(event, body)
            case messages.Progress():
                windows.note_place(self._sessions.open_session(body.plan.session), sender, body)
                context.emit(Ack((event.tag,)))
            case messages.Attach():
                context.emit(*self._members.attach(event, body, self._context.term, context.now))
            case messages.Inquiry():
                context.emit(*self._members.describe(event))
            case messages.CombinerPresence():
                self._presence_of(sender, body)
                context.emit(Ack((event.tag,)))
            case messages.CombinerHello():
                self._note_combiner(sender)
                self._answer_hello(sender)
                context.emit(Ack((event.tag,)))
            case messages.Start(policy=policy):
                self._sessions.start(event, name_from_id(event.envelope.id), policy)
            case messages.Stop():
                self._sessions.stop(event, body)
            case messages.ForgetSessionRequest(session=session):
                self._sessions.forget(event, session)
            case messages.ForgetMemberRequest():
                context.emit(*forget(self._members, event, body, self._context.term, context.now))
            case _:
                context.emit(Reject(event.tag, f"a reducer does not receive {body.kind} messages"))

    def _validation(self, event: Received, body: messages.Validation) -> None:
        """Passes a validation to its session, or rejects it if its sender can't have such a task."""
        session = self._sessions.open_session(body.plan.session)
        objection = validation_objection(self._context, session, event.envelope.sender, body)
        if objection is None:
            self._sessions.validation(event, body)
        else:
            self._context.emit(Reject(event.tag, objection))

    def _presence_of(self, combiner: str, body: messages.CombinerPresence) -> None:
        if body.leaving:
            self._context.emit(*self._members.combiner_left(combiner, self._context.now))
            self.rehome()
            return
        self._note_combiner(combiner)
        self._context.emit(*self._members.presence(combiner, body, self._context.now))
        if self._members.disagrees(combiner, body):
            self._answer_hello(combiner)
        self._sessions.members_changed()

    def _note_combiner(self, combiner: str) -> None:
        """Notes a heartbeat. If the combiner is new, clients that wait, and those of vanished combiners, are granted one."""
        joined = self._members.note_combiner(combiner, self._context.term, self._context.now)
        if joined:
            self._context.emit(*joined)
            self.rehome()

    def rehome(self) -> None:
        """Grants a combiner to clients whose combiner has vanished, and to those that wait for one."""
        self._context.emit(*self._members.rehome(self._context.term, self._context.now))
        self._sessions.combiners_changed()

    def _answer_hello(self, combiner: str) -> None:
        """Publishes a combiner's open plans, then `welcome`.

        Only while the lease is held. A reducer that has lost it does not know the plans that were made since, and a combiner
        that was welcomed does not register again.
        """
        self._context.emit(CheckLease(self._context.term))
        self._sessions.publish_open_plans(combiner)
        self.welcome(combiner)

    def welcome(self, combiner: str) -> None:
        """Publishes `welcome`, after which a combiner reports all of its clients."""
        body = messages.Welcome(epoch=self._context.term, presence=self._presence)
        self._context.emit(Publish("task", topology.plan_key(combiner), body))
