"""The combiner's decisions. Pure.

It gives each client of a plan its task, has each update folded the moment it arrives, and answers the plan with one
partial when all clients have answered or time is up. Two rules carry the guarantees:

1. A message that changes a sum stays unacknowledged until a partial or checkpoint that contains it is durable. Killed,
   the combiner says hello, gets its open plans, and the broker delivers the messages again in order.
2. The first accepted update of a task wins; whatever else comes for it is discarded, with an event that says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fedmq.effects import (
    Ack,
    CancelTimer,
    CoreEvent,
    Done,
    Drained,
    Effect,
    Failed,
    Fired,
    Now,
    Publish,
    PublishEvent,
    Received,
    Reconnected,
    Reject,
    Started,
    StartTimer,
    Stopping,
)
from fedmq.membership import Membership
from fedmq.watermarks import Watermarks
from fedmq_combiner import operations
from fedmq_combiner.documents import ledger_entry, ledger_of, partial_of, task_messages
from fedmq_combiner.plans import OpenPlan, PlanState
from fedmq_combiner.presence import Presence
from fedmq_schemas import messages, topology
from fedmq_schemas.keys import upload_prefix
from fedmq_schemas.messages import Body, Decline, Plan, PlanKey, Update
from fedmq_schemas.records import LedgerEntry, Outcome

SAVE_AFTER = 600.0
HELLO_AGAIN = 2.0


class CombinerCore:
    """`presence`: seconds between signs of life. `hold_at_most`: unacknowledged messages that cause a checkpoint."""

    def __init__(self, combiner: str, *, presence: float = 10.0, hold_at_most: int = 5_000) -> None:
        self.combiner = combiner
        self._hold_at_most = hold_at_most
        self._plans: dict[str, OpenPlan] = {}
        self._early: list[Received] = []
        self._served: dict[str, set[str]] = {}
        self._newest = Watermarks()
        self._epoch = 0
        self._incarnation = 0
        self._is_served = False
        self._welcomed = False
        self._moment = Now(0.0, 0.0)
        self._presence = Presence(combiner, Membership(presence))

    @property
    def clients(self) -> int:
        """How many it hears."""
        return self._presence.count

    @property
    def open_plans(self) -> int:
        return sum(plan.state not in (PlanState.CLOSED, PlanState.VOID) for plan in list(self._plans.values()))

    def handle(self, event: CoreEvent, moment: Now) -> Sequence[Effect]:
        self._moment = moment
        match event:
            case Received():
                woken = [] if self._is_served else self._begin(moment)
                return [*woken, *self._received(event, moment)]
            case Done(effect=operations.Fold() as fold, result=operations.Folded() as folded):
                return self._folded(fold, folded)
            case Done(effect=operations.Open() as opening, result=operations.Opened() as opened):
                return self._opened(opening, opened, moment)
            case Failed(effect=operations.Fold() as fold, error=error):
                return self._not_folded(fold, error.reason)
            case Done(effect=operations.Save() as save):
                return self._saved(save)
            case Done(effect=operations.Close() as close, result=operations.Closed() as closed):
                return self._closed(close, closed)
            case Failed(effect=operations.Open() as opening, error=error):
                return self._not_opened(opening, error.reason)
            case Failed(effect=Publish(body=messages.CombinerHello())):
                return [StartTimer("hello", HELLO_AGAIN)]  # no reducer has ever been there
            case Fired(key):
                return self._fired(key, moment)
            case Started() | Reconnected():
                return self._say_hello(moment)
            case Stopping():
                return [*self._presence.leave(), Drained()]
        return ()

    # -- being there ------------------------------------------------------------------------------------------------

    def _say_hello(self, moment: Now) -> list[Effect]:
        """A new life: unsettled messages will come again, so whatever is not answered starts over."""
        effects: list[Effect] = []
        for key, plan in list(self._plans.items()):
            if plan.state not in (PlanState.CLOSED, PlanState.VOID):
                effects += [CancelTimer(f"deadline:{key}"), CancelTimer(f"save:{key}")]
                effects.append(operations.Drop(key, plan.incarnation))
                del self._plans[key]
        self._incarnation += 1
        self._early.clear()
        self._is_served = self._welcomed = False
        return [*effects, *self._presence.start(), self._hello()]

    def _hello(self) -> Publish:
        return Publish("assignment", topology.assignment_request_key(self.combiner), messages.CombinerHello())

    def _begin(self, moment: Now) -> list[Effect]:
        """The first message of this life: the broker serves this process, and no other of the same name. If one before it
        was served until now, that one got the answer to our hello."""
        self._is_served = True
        return [*self._presence.listen(moment), StartTimer("hello", HELLO_AGAIN)]

    def _fired(self, key: str, moment: Now) -> Sequence[Effect]:
        kind, _, plan_key = key.partition(":")
        if kind == "presence":
            return self._presence.fired(key, moment)
        if kind == "hello":
            return () if self._welcomed else [self._hello()]
        plan = self._plans.get(plan_key)
        if plan is None:
            return ()
        if kind == "deadline":
            plan.is_due = True
            return self._close_if_ready(plan)
        return self._save_if_ready(plan)

    # -- messages ---------------------------------------------------------------------------------------------------

    def _received(self, event: Received, moment: Now) -> Sequence[Effect]:
        body, sender = event.body, event.envelope.sender
        match body:
            case Update() | Decline():
                return [*self._presence.hear(sender, moment), *self._answered(event)]
            case Plan():
                return self._planned(event, body, moment)
            case messages.ClientPresence(leaving=leaving):
                heard = self._presence.forget(sender) if leaving else self._presence.hear(sender, moment)
                return [Ack((event.tag,)), *heard]
            case messages.ClientHello():
                tasks = [task for plan in self._plans.values() for task in self._tasks(plan, [sender], moment)]
                return [*self._presence.greet(sender, moment), *tasks, Ack((event.tag,))]
            case messages.Progress(plan=plan_key, fraction=fraction, metrics=metrics):
                data = {"fraction": fraction, "metrics": metrics}
                told = PublishEvent("task.progress", plan_key.session, plan_key.round, sender, self.combiner, data)
                return [Ack((event.tag,)), *self._presence.hear(sender, moment), told]
            case messages.VoidPlan():
                return self._void(event, body)
            case messages.Welcome():
                return self._welcome(event, body, moment)
        return [Reject(event.tag, f"a combiner does not receive {body.kind} messages")]

    def _welcome(self, event: Received, welcome: messages.Welcome, moment: Now) -> list[Effect]:
        self._epoch = max(self._epoch, welcome.epoch)
        self._welcomed = True
        early, self._early = self._early, []
        effects: list[Effect] = [Ack((event.tag,)), *self._presence.full(moment)]
        for held in early:
            effects += self._answered(held)
        return effects

    # -- plans ------------------------------------------------------------------------------------------------------

    def _planned(self, event: Received, body: Plan, moment: Now) -> list[Effect]:
        key = str(body.plan)
        if body.epoch < self._epoch:
            return [Ack((event.tag,)), self._discarded(body, f"epoch {body.epoch} is over, {self._epoch} decides now")]
        self._epoch = body.epoch
        known = self._plans.get(key)
        place = (body.plan.round, body.plan.attempt) if body.plan.action == "train" else ()
        if known is None and self._newest.is_superseded(body.plan.session, place):
            return [Ack((event.tag,)), self._discarded(body, "it comes late: its session is over, or further on")]
        if known is None:
            self._drop_older(body.plan)
            due_at = moment.seconds + body.timeout
            self._plans[key] = OpenPlan(body, self._incarnation, due_at)
            opening = operations.Open(body, self._incarnation)
            return [StartTimer(f"deadline:{key}", body.timeout), Ack((event.tag,)), opening]
        if known.state is PlanState.CLOSED and known.partial is not None:
            return [self._answer(known, known.partial), Ack((event.tag,))]
        return [Ack((event.tag,))]

    def _discarded(self, body: Plan, reason: str) -> PublishEvent:
        data = {"reason": reason, "plan": str(body.plan)}
        return PublishEvent("plan.voided", body.plan.session, body.plan.round, None, self.combiner, data)

    def _not_opened(self, opening: operations.Open, reason: str) -> Sequence[Effect]:
        """The model can't be read: the answer is an empty partial, and the reason is told."""
        plan = self._current(str(opening.plan.plan), opening.incarnation)
        if plan is None or plan.state is not PlanState.OPENING:
            return ()
        plan.open(opening.plan.clients, ())
        for client, task in plan.tasks.items():
            task.entry = LedgerEntry(
                client=client, outcome="failed", reason=f"the combiner can't open the plan: {reason}"
            )
        return [self._discarded(opening.plan, reason), *self._close_if_ready(plan)]

    def _opened(self, opening: operations.Open, opened: operations.Opened, moment: Now) -> Sequence[Effect]:
        plan = self._current(str(opening.plan.plan), opening.incarnation)
        if plan is None or plan.state is not PlanState.OPENING:
            return ()
        plan.open(opened.clients, opened.saved)
        effects: list[Effect] = list(self._tasks(plan, list(plan.tasks), moment))
        effects += self._take_early(plan)
        return effects + list(self._close_if_ready(plan))

    def _tasks(self, plan: OpenPlan, clients: list[str], moment: Now) -> list[Effect]:
        """The tasks that are still open for these clients."""
        if plan.state not in (PlanState.OPEN, PlanState.SAVING):
            return []
        left = max(0.0, plan.due_at - moment.seconds)
        still_open = [
            client
            for client in clients
            if client in plan.tasks and plan.tasks[client].entry is None and plan.tasks[client].folding is None
        ]
        return [
            Publish("task", topology.task_key(task.client), task, expiration=left)
            for task in task_messages(plan.plan, still_open, self.combiner, left)
        ]

    def _void(self, event: Received, void: messages.VoidPlan) -> list[Effect]:
        if void.epoch < self._epoch:
            return [Ack((event.tag,))]
        self._epoch = void.epoch
        if void.session is not None:
            self._newest.end(void.session)
        keys = {str(plan) for plan in void.plans}
        over = self._served.pop(void.session, set()) if void.session is not None else set()
        effects: list[Effect] = []
        for key, plan in list(self._plans.items()):
            ended = plan.plan.plan.session == void.session
            if not ended and key not in keys:
                continue
            pending = plan.pending()
            if plan.state is not PlanState.VOID:
                effects += self._end(plan)
            if ended:
                over.update(plan.tasks)
                del self._plans[key]
            else:
                effects += self._cancel(pending, messages.Cancel(plan=plan.plan.plan))
        if void.session is not None:
            ending = messages.Cancel(plan=PlanKey(session=void.session, round=0), session_over=True)
            effects += self._cancel(sorted(over), ending)
        return [*effects, Ack((event.tag,))]

    def _cancel(self, clients: Iterable[str], cancel: messages.Cancel) -> list[Effect]:
        return [Publish("task", topology.task_key(client), cancel, confirm=False) for client in clients]

    def _drop_older(self, plan: PlanKey) -> None:
        """A plan of a round says that those before it are over: of their answered plans only the clients' names stay,
        to tell them when the session ends."""
        for key, older in list(self._plans.items()):
            known = older.plan.plan
            is_over = known.session == plan.session and known.round < plan.round
            if is_over and older.state in (PlanState.CLOSED, PlanState.VOID):
                self._served.setdefault(plan.session, set()).update(older.tasks)
                del self._plans[key]

    def _end(self, plan: OpenPlan) -> list[Effect]:
        key = str(plan.plan.plan)
        early = plan.take_waiting()
        is_closed = plan.state is PlanState.CLOSED
        plan.move(PlanState.VOID)
        effects: list[Effect] = [CancelTimer(f"deadline:{key}"), CancelTimer(f"save:{key}"), Ack(plan.take_held())]
        if not is_closed:
            effects.append(operations.Drop(key, plan.incarnation))
        for held in early:
            effects += self._answered(held)
        return effects

    # -- updates ----------------------------------------------------------------------------------------------------

    def _answered(self, event: Received) -> list[Effect]:
        body = event.body
        assert isinstance(body, Update | Decline)
        plan = self._plans.get(str(body.plan))
        client = event.envelope.sender
        if plan is None:
            if not self._welcomed:
                self._early.append(event)
                return []
            return self._discard(event, "superseded: no such plan is open here")
        if plan.state in (PlanState.OPENING, PlanState.SAVING):
            plan.early.append(event)
            return []
        objection = plan.objection(client, body)
        if objection is not None:
            return self._discard(event, objection)
        task = plan.tasks[client]
        if task.folding is not None:
            task.rivals.append(event)
            return []
        if isinstance(body, Decline):
            return self._settle(plan, event, body.outcome, body.reason, traceback=body.traceback)
        return self._fold(plan, event, body)

    def _discard(self, event: Received, reason: str) -> list[Effect]:
        body = event.body
        assert isinstance(body, Update | Decline)
        plan = body.plan
        told = PublishEvent(
            "update.discarded", plan.session, plan.round, event.envelope.sender, self.combiner, {"reason": reason}
        )
        return [told, Ack((event.tag,))]

    def _fold(self, plan: OpenPlan, event: Received, update: Update) -> list[Effect]:
        key, client = update.plan, event.envelope.sender
        prefix = upload_prefix(key.session, key.round, client)
        if not update.blob.key.startswith(prefix):
            return self._settle(plan, event, "rejected", f"its blob {update.blob.key!r} is not under {prefix!r}")
        plan.begin(client, event, self._moment.seconds)
        return [operations.Fold(str(key), plan.incarnation, client, update.blob, update.weight)]

    def _folded(self, fold: operations.Fold, folded: operations.Folded) -> Sequence[Effect]:
        plan = self._current(fold.plan, fold.incarnation)
        finished = plan.finish(fold.client) if plan is not None else None
        if plan is None or finished is None:
            return ()
        event, rivals = finished
        effects = self._settle(plan, event, "accepted", "", norm=folded.norm)
        return effects + [effect for rival in rivals for effect in self._answered(rival)]

    def _not_folded(self, fold: operations.Fold, reason: str) -> Sequence[Effect]:
        plan = self._current(fold.plan, fold.incarnation)
        finished = plan.finish(fold.client) if plan is not None else None
        if plan is None or finished is None:
            return ()
        event, rivals = finished
        if not rivals:
            return self._settle(plan, event, "rejected", reason)
        effects = self._discard(event, f"rejected ({reason}), another update of the task is looked at")
        return effects + [effect for rival in rivals for effect in self._answered(rival)]

    def _settle(
        self,
        plan: OpenPlan,
        event: Received,
        outcome: Outcome,
        reason: str,
        *,
        norm: float | None = None,
        traceback: str = "",
    ) -> list[Effect]:
        """Gives the task its outcome and keeps its message until that is durable."""
        body, client = event.body, event.envelope.sender
        update = body if isinstance(body, Update) else None
        seconds = self._seconds(plan, event, update) if update else {}
        entry = ledger_entry(client, update, outcome, reason, norm, seconds, self._moment.wall)
        plan.settle(entry)
        effects: list[Effect] = []
        key = plan.plan.plan
        if not plan.held:
            effects.append(StartTimer(f"save:{key}", SAVE_AFTER))
        plan.held.append(event.tag)
        data: dict[str, Any] = {"reason": reason, "traceback": traceback} if reason else {}
        if update is not None:
            data |= {"weight": update.weight, "norm": norm, "metrics": update.metrics, "seconds": entry.seconds}
        effects.append(PublishEvent(f"update.{outcome}", key.session, key.round, client, self.combiner, data))
        effects += self._close_if_ready(plan)
        if len(plan.held) >= self._hold_at_most:
            effects += self._save_if_ready(plan)
        return effects

    def _seconds(self, plan: OpenPlan, event: Received, update: Update) -> dict[str, float]:
        now = self._moment
        began = plan.tasks[event.envelope.sender].folding_since
        fold = now.seconds - began if began is not None else 0.0
        return {**update.seconds, "fold": fold, "transit": now.wall - event.envelope.sent_at - fold}

    def _take_early(self, plan: OpenPlan) -> list[Effect]:
        early, plan.early = plan.early, []
        return [effect for held in early for effect in self._answered(held)]

    # -- checkpoints and the answer ---------------------------------------------------------------------------------

    def _save_if_ready(self, plan: OpenPlan) -> list[Effect]:
        if plan.state is not PlanState.OPEN or not plan.held:
            return []
        key = str(plan.plan.plan)
        if plan.is_folding:
            return [StartTimer(f"save:{key}", 1.0)]
        plan.move(PlanState.SAVING)
        done = tuple(entry for entry in plan.entries() if entry.outcome != "absent")
        return [operations.Save(key, plan.incarnation, done)]

    def _saved(self, save: operations.Save) -> Sequence[Effect]:
        plan = self._current(save.plan, save.incarnation)
        if plan is None or plan.state is not PlanState.SAVING:
            return ()
        tags = plan.take_held()
        plan.move(PlanState.OPEN)
        return [Ack(tags), *self._take_early(plan), *self._close_if_ready(plan)]

    def _close_if_ready(self, plan: OpenPlan) -> list[Effect]:
        if plan.state is not PlanState.OPEN or plan.is_folding or not (plan.is_complete or plan.is_due):
            return []
        body, key = plan.plan, str(plan.plan.plan)
        if not plan.is_training:
            if not plan.is_due:
                return []
            return self._end(plan)
        plan.move(PlanState.CLOSING)
        entries = plan.entries()
        absent = [entry.client for entry in entries if entry.outcome == "absent"]
        effects: list[Effect] = [CancelTimer(f"deadline:{key}"), CancelTimer(f"save:{key}")]
        for client in absent:
            effects.append(PublishEvent("update.absent", body.plan.session, body.plan.round, client, self.combiner))
            cancel = messages.Cancel(plan=body.plan)
            effects.append(Publish("task", topology.task_key(client), cancel, confirm=False))
        return [*effects, operations.Close(body, plan.incarnation, ledger_of(body, entries))]

    def _closed(self, close: operations.Close, closed: operations.Closed) -> Sequence[Effect]:
        plan = self._current(str(close.plan.plan), close.incarnation)
        if plan is None or plan.state is not PlanState.CLOSING:
            return ()
        plan.move(PlanState.CLOSED)
        plan.partial = partial_of(plan.plan, close.ledger, closed)
        return [self._answer(plan, plan.partial), Ack(plan.take_held())]

    def _answer(self, plan: OpenPlan, partial: Body) -> Publish:
        key = topology.update_key(plan.plan.reply_to, self.combiner)
        return Publish("update", key, partial, id=f"partial-{plan.plan.plan}-{self.combiner}")

    def _current(self, key: str, incarnation: int) -> OpenPlan | None:
        plan = self._plans.get(key)
        return plan if plan is not None and plan.incarnation == incarnation else None
