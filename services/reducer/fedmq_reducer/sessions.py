"""Sessions: a queue, and the one that runs, round by round. Pure.

What is decided is recorded before anybody is told: the draw of an attempt before its plans, a partial before it is
acknowledged, a round (the commit point) before its events. So whoever takes over finds every decision, and may tell it
again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from fedmq.effects import Ack, CancelTimer, Effect, Emit, Moment, Publish, Received, StartTimer
from fedmq.errors import FedMQError
from fedmq.metrics import summarize
from fedmq_reducer import operations
from fedmq_reducer.assignment import Assignment
from fedmq_reducer.operations import Aggregate, Change, Insert, OpenSeed, Put, PutBlob
from fedmq_reducer.session import (
    Attempt,
    PlannedPart,
    Session,
    State,
    group_by_combiner,
    model_id,
    random_seed_of,
)
from fedmq_schemas import messages, records, topology
from fedmq_schemas.messages import MAX_LISTED_CLIENTS, BlobRef, Partial, PlanKey
from fedmq_schemas.policy import Policy

LEAST_GRACE = 5.0


def session_document(session: Session, moment: Moment) -> dict[str, Any]:
    return {
        "session": session.name,
        "name": session.policy.name,
        "state": session.recorded_state,
        "waiting": "",
        "reason": "",
        "policy": session.policy.model_dump(mode="json"),
        "seed": session.policy.seed,
        "random_seed": session.random_seed,
        "position": session.position,
        "created_at": moment.wall,
        "ended_at": None,
    }


class Sessions:
    """All sessions that have not ended, in their order; the first one runs."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._sessions: dict[str, Session] = {}
        self._starting: dict[str, Session] = {}
        self._next_position = 0
        self.epoch = 0

    @property
    def current(self) -> Session | None:
        return next(iter(self._sessions.values()), None)

    # -- start, stop, end -------------------------------------------------------------------------------------------

    def start(self, event: Received, name: str, policy: Policy, moment: Moment) -> list[Effect]:
        if name in self._sessions or name in self._starting:
            return [Ack((event.tag,))]
        session = Session(name, policy, self._next_position, random_seed_of(policy, name))
        self._next_position += 1
        self._starting[name] = session
        document = session_document(session, moment)
        return [Insert(records.SESSIONS, name, document, self.epoch), Ack((event.tag,))]

    def started(self, name: str, existing: Mapping[str, Any] | None, moment: Moment) -> list[Effect]:
        session = self._starting.pop(name, None)
        if session is None or existing is not None:
            return []
        self._sessions[name] = session
        data = {"policy": session.policy.model_dump(mode="json"), "position": session.position}
        told = Emit("session.queued", name, data=data, id=f"queued-{name}")
        return [told, *self.pump(moment)]

    def pump(self, moment: Moment) -> list[Effect]:
        """Starts the next session if none runs."""
        session = self.current
        if session is None or session.state is not State.QUEUED:
            return []
        session.move(State.OPENING)
        weights = tuple(client.weight for client in self._assignment.eligible("train"))
        return [self._recorded(session), OpenSeed(session.name, session.policy.seed, weights)]

    def seed_opened(self, opening: OpenSeed, opened: operations.OpenedSeed, moment: Moment) -> list[Effect]:
        session = self._sessions.get(opening.session)
        if session is None or session.state is not State.OPENING:
            return []
        session.model, session.exponents = opened.model, opened.exponents
        seed = model_id(opened.model)
        data = {"seed": seed, "rounds": session.policy.rounds}
        return [
            Change(records.SESSIONS, session.name, {"seed": seed}, self.epoch),
            Emit("session.started", session.name, data=data, id=f"started-{session.name}"),
            *self._send_tests(session, 0, opened.model, moment),
            *self._plan(session, moment),
        ]

    def failed(self, session_name: str, error: FedMQError, moment: Moment) -> list[Effect]:
        """An effect of the session was refused for good."""
        session = self._sessions.get(session_name)
        return [] if session is None else self._end(session, State.FAILED, error.reason, moment)

    def stop(self, event: Received, body: messages.Stop, moment: Moment) -> list[Effect]:
        session = self._sessions.get(body.session)
        if session is None:
            return [Ack((event.tag,))]
        in_round = session.state in (State.DRAWING, State.RUNNING, State.COMMITTING)
        if body.when == "after_round" and in_round:
            session.stop_after_round = True
            fields = {"stop_after_round": True}
            return [Change(records.SESSIONS, session.name, fields, self.epoch), Ack((event.tag,))]
        reason = f"stopped by {event.envelope.sender}"
        return [*self._end(session, State.STOPPED, reason, moment), Ack((event.tag,))]

    def _end(self, session: Session, state: State, reason: str, moment: Moment) -> list[Effect]:
        session.move(state)
        session.waiting = ""
        del self._sessions[session.name]
        fields = {"state": state.value, "reason": reason, "waiting": "", "ended_at": moment.wall}
        data = {"reason": reason, "model": model_id(session.model) if session.model else None}
        void = messages.VoidPlan(epoch=self.epoch, session=session.name)
        told = Emit(f"session.{state.value}", session.name, session.round - 1, data=data, id=f"ended-{session.name}")
        return [
            Change(records.SESSIONS, session.name, fields, self.epoch),
            told,
            *(Publish("task", topology.plan_key(combiner), void) for combiner in self._assignment.combiners),
            *(CancelTimer(f"{kind}:{session.name}") for kind in ("round", "wait", "window")),
            *self.pump(moment),
        ]

    def _recorded(self, session: Session) -> Change:
        fields = {"state": session.recorded_state, "waiting": session.waiting}
        return Change(records.SESSIONS, session.name, fields, self.epoch)

    # -- plan -------------------------------------------------------------------------------------------------------

    def _plan(self, session: Session, moment: Moment) -> list[Effect]:
        """Draws the next attempt's clients, or waits for them."""
        eligible = self._assignment.eligible("train")
        if len(eligible) < session.policy.clients_required:
            return self._wait(session, len(eligible))
        session.move(State.DRAWING)
        session.attempts += 1
        session.waiting = ""
        if session.attempts == 1:
            session.began_at = moment.seconds
        combiner_of = {client.name: client.combiner for client in eligible}
        groups = group_by_combiner(session.draw(eligible), combiner_of)
        parts = [
            PlannedPart(self._key(session, number), combiner, clients)
            for number, (combiner, clients) in enumerate(groups.items())
        ]
        session.attempt = Attempt(session.attempts, parts)
        document = self._attempt_document(session) | {"created_at": moment.wall}
        key = f"{session.name}/{session.round:06d}/{session.attempts:04d}"
        return [CancelTimer(f"wait:{session.name}"), Insert(records.ATTEMPTS, key, document, self.epoch)]

    def _key(self, session: Session, part: int) -> PlanKey:
        return PlanKey(session=session.name, round=session.round, attempt=session.attempts, part=part)

    def _attempt_document(self, session: Session) -> dict[str, Any]:
        assert session.attempt is not None and session.model is not None
        return {
            "session": session.name,
            "round": session.round,
            "attempt": session.attempts,
            "model": session.model.model_dump(),
            "optimizer": session.optimizer.model_dump() if session.optimizer else None,
            "exponents": list(session.exponents),
            "plans": [part.document() for part in session.attempt.parts],
            "epoch": self.epoch,
        }

    def _wait(self, session: Session, there: int) -> list[Effect]:
        required = session.policy.clients_required
        waiting = f"waiting for clients, {there} of {required}"
        is_new = session.state is not State.WAITING
        session.move(State.WAITING)
        if waiting == session.waiting:
            return []
        session.waiting = waiting
        data = {"reason": waiting, "for_seconds": session.policy.wait}
        effects: list[Effect] = [Emit("session.waiting", session.name, session.round, data=data), self._recorded(session)]
        if is_new:
            effects.append(StartTimer(f"wait:{session.name}", session.policy.wait))
        return effects

    def attempt_recorded(
        self, document: Mapping[str, Any], existing: Mapping[str, Any] | None, moment: Moment
    ) -> list[Effect]:
        session = self._sessions.get(document["session"])
        if session is None or session.state is not State.DRAWING or session.attempt is None:
            return []
        if existing is not None:
            self._adopt_attempt(session, existing)
        session.move(State.RUNNING)
        attempt = session.attempt
        clients = sum(len(part.clients) for part in attempt.parts)
        data = {
            "attempt": attempt.number,
            "clients": clients,
            "combiners": len(attempt.parts),
            "timeout": session.policy.timeout,
        }
        told = Emit("round.planned", session.name, session.round, data=data, id=f"planned-{attempt.parts[0].key}")
        return [told, self._recorded(session), *self._send_plans(session, moment)]

    def _adopt_attempt(self, session: Session, document: Mapping[str, Any]) -> None:
        session.attempts = document["attempt"]
        parts = [
            PlannedPart(self._key(session, plan["part"]), plan["combiner"], tuple(plan["clients"]), plan["voided"])
            for plan in document["plans"]
        ]
        session.attempt = Attempt(session.attempts, parts)
        session.exponents = tuple(document["exponents"])
        session.model = BlobRef.model_validate(document["model"])
        session.optimizer = BlobRef.model_validate(document["optimizer"]) if document["optimizer"] else None

    def _send_plans(self, session: Session, moment: Moment) -> list[Effect]:
        assert session.attempt is not None
        timeout = session.policy.timeout
        session.attempt.due_at = moment.seconds + timeout
        effects: list[Effect] = [StartTimer(f"round:{session.name}", timeout + max(LEAST_GRACE, timeout / 10))]
        for part in session.attempt.parts:
            if part.is_open:
                effects += self._send_plan(session, part, moment)
        return effects

    def _send_plan(self, session: Session, part: PlannedPart, moment: Moment) -> list[Effect]:
        assert session.attempt is not None
        left = max(0.0, session.attempt.due_at - moment.seconds)
        return self._publish_plan(session, part.key, part.combiner, part.clients, session.model, left)

    def _publish_plan(
        self,
        session: Session,
        key: PlanKey,
        combiner: str,
        clients: tuple[str, ...],
        model: BlobRef | None,
        timeout: float,
    ) -> list[Effect]:
        assert model is not None
        effects: list[Effect] = []
        listed, reference = clients, None
        if len(clients) > MAX_LISTED_CLIENTS:
            data = json.dumps(clients).encode()
            blob = f"updates/{key.session}/{key.round:06d}/clients-{key.action}-{key.attempt}-{key.part}.json"
            reference = BlobRef(key=blob, size=len(data), sha256=hashlib.sha256(data).hexdigest())
            effects.append(PutBlob(blob, data))
            listed = ()
        plan = messages.Plan(
            plan=key,
            epoch=self.epoch,
            reply_to=topology.REDUCER,
            clients=listed,
            clients_ref=reference,
            model=model,
            exponents=session.exponents if key.action == "train" else (),
            timeout=timeout,
            rounds=session.policy.rounds,
            random_seed=session.random_seed,
            config=session.train_config(),
            weighting=session.policy.weighting,
            validate_model=session.policy.validate_models,
        )
        effects.append(Publish("task", topology.plan_key(combiner), plan, id=f"plan-{key}-{combiner}-{self.epoch}"))
        return effects

    def open_plans(self, combiner: str, moment: Moment) -> list[Effect]:
        """Everything that is still open for a combiner that has said hello."""
        session = self.current
        if session is None:
            return []
        effects: list[Effect] = []
        if session.state is State.RUNNING and session.attempt is not None:
            for part in session.attempt.parts:
                if part.is_open and part.combiner == combiner:
                    effects += self._send_plan(session, part, moment)
        for number, model in session.tests.items():
            effects += self._send_tests(session, number, model, moment, only=combiner)
        return effects

    def members_changed(self, moment: Moment) -> list[Effect]:
        session = self.current
        if session is None or session.state is not State.WAITING:
            return []
        return self._plan(session, moment)

    def move_clients(self, moved: Mapping[str, str], moment: Moment) -> list[Effect]:
        """Clients of a vanished combiner work elsewhere now: its open plans are voided and planned again."""
        session = self.current
        if not moved or session is None or session.state is not State.RUNNING or session.attempt is None:
            return []
        attempt = session.attempt
        lost = [part for part in attempt.parts if part.is_open and any(client in moved for client in part.clients)]
        lost = [part for part in lost if part.combiner not in self._assignment.combiners]
        if not lost:
            return []
        added: list[PlannedPart] = []
        effects: list[Effect] = []
        for part in lost:
            part.voided = True
            effects += self._tell_voided(part, f"combiner {part.combiner} has vanished")
            for combiner, clients in group_by_combiner(part.clients, moved).items():
                added.append(PlannedPart(self._key(session, len(attempt.parts) + len(added)), combiner, clients))
        attempt.parts += added
        effects = [self._record_attempt(session, moment), *effects]
        for part in added:
            effects += self._send_plan(session, part, moment)
        return effects

    def _record_attempt(self, session: Session, moment: Moment) -> Put:
        document = self._attempt_document(session) | {"created_at": moment.wall}
        key = f"{session.name}/{session.round:06d}/{session.attempts:04d}"
        return Put(records.ATTEMPTS, key, document, self.epoch)

    def _tell_voided(self, part: PlannedPart, reason: str) -> list[Effect]:
        void = messages.VoidPlan(epoch=self.epoch, plans=(part.key,))
        data = {"reason": reason, "plan": str(part.key)}
        return [
            Publish("task", topology.plan_key(part.combiner), void),
            Emit("plan.voided", part.key.session, part.key.round, None, part.combiner, data),
        ]

    # -- partials and the commit ------------------------------------------------------------------------------------

    def partial(self, event: Received, body: Partial) -> list[Effect]:
        session = self._sessions.get(body.plan.session)
        attempt = session.attempt if session is not None and session.state is State.RUNNING else None
        part = attempt.part(body.plan) if attempt is not None else None
        if part is None or not part.is_open or part.combiner != event.envelope.sender:
            reason = "its plan is not open: superseded, voided or answered"
            data = {"reason": reason, "plan": str(body.plan), "counts": body.counts}
            told = Emit("plan.voided", body.plan.session, body.plan.round, None, event.envelope.sender, data)
            return [told, Ack((event.tag,))]
        document = {
            "session": body.plan.session,
            "plan": str(body.plan),
            "combiner": part.combiner,
            "partial": body.model_dump(mode="json"),
        }
        return [Insert(records.PARTIALS, str(body.plan), document, self.epoch), Ack((event.tag,))]

    def partial_recorded(self, document: Mapping[str, Any], existing: Mapping[str, Any] | None, moment: Moment) -> list[Effect]:
        body = Partial.model_validate((existing or document)["partial"])
        session = self._sessions.get(body.plan.session)
        if session is None or session.state is not State.RUNNING or session.attempt is None:
            return []
        part = session.attempt.part(body.plan)
        if part is None or not part.is_open:
            return []
        part.partial = body
        return self._commit_if_answered(session, moment)

    def _commit_if_answered(self, session: Session, moment: Moment) -> list[Effect]:
        attempt = session.attempt
        assert attempt is not None and session.model is not None
        if not attempt.is_answered:
            return []
        accepted = attempt.accepted()
        if accepted < session.policy.clients_required:
            return self._retry(session, accepted, moment)
        session.move(State.COMMITTING)
        partials = tuple(sorted(attempt.partials(), key=lambda partial: partial.plan.part))
        aggregate = Aggregate(
            session.name, session.round, attempt.number, session.model, session.optimizer, session.exponents,
            session.policy.strategy, partials,
        )  # fmt: skip
        return [CancelTimer(f"round:{session.name}"), aggregate]

    def _retry(self, session: Session, accepted: int, moment: Moment) -> list[Effect]:
        reason = f"round {session.round} got {accepted} updates of {session.policy.clients_required}"
        if session.attempts > session.policy.retries:
            attempts = f"{session.attempts} attempt{'s' if session.attempts > 1 else ''}"
            return self._end(session, State.FAILED, f"{reason} in {attempts}", moment)
        told = Emit(
            "round.retried", session.name, session.round, data={"reason": reason, "attempt": session.attempts},
            id=f"retried-{session.name}-{session.round}-{session.attempts}",
        )  # fmt: skip
        return [told, *self._plan(session, moment)]

    def aggregated(self, request: Aggregate, result: operations.Aggregated, moment: Moment) -> list[Effect]:
        session = self._sessions.get(request.session)
        if session is None or session.state is not State.COMMITTING or session.round != request.round:
            return []
        document = {
            "session": session.name,
            "round": session.round,
            "attempt": request.attempt,
            "model": result.model.model_dump(),
            "parent": request.model.model_dump(),
            "optimizer": result.optimizer.model_dump() if result.optimizer else None,
            "ledger": result.ledger.model_dump(),
            "total_weight": result.total_weight,
            "counts": dict(result.counts),
            "metrics": dict(result.metrics),
            "exponents": list(result.exponents),
            "seconds": moment.seconds - session.began_at,
            "epoch": self.epoch,
            "committed_at": moment.wall,
        }
        return [Insert(records.ROUNDS, f"{session.name}/{session.round:06d}", document, self.epoch)]

    def round_recorded(self, document: Mapping[str, Any], existing: Mapping[str, Any] | None, moment: Moment) -> list[Effect]:
        session = self._sessions.get(document["session"])
        if session is None or session.state is not State.COMMITTING or session.round != document["round"]:
            return []
        committed = existing or document
        effects = self._tell_committed(session, committed)
        parent = session.model
        self._adopt_round(session, committed)
        assert parent is not None and session.model is not None
        effects += self._summarise(session, parent)
        keep = session.policy.retention.keep_updates
        if isinstance(keep, int) and session.round - 1 - keep >= 1:
            effects.append(operations.Sweep(session.name, session.round - 1 - keep))
        if session.round > session.policy.rounds:
            return effects + self._open_window(session, moment)
        effects += self._send_tests(session, session.round - 1, session.model, moment)
        if session.stop_after_round:
            return effects + self._end(session, State.STOPPED, "stopped after the round", moment)
        return effects + self._plan(session, moment)

    def _adopt_round(self, session: Session, committed: Mapping[str, Any]) -> None:
        session.model = BlobRef.model_validate(committed["model"])
        session.optimizer = BlobRef.model_validate(committed["optimizer"]) if committed["optimizer"] else None
        session.exponents = tuple(committed["exponents"])
        session.round = committed["round"] + 1
        session.attempt, session.attempts = None, 0

    def _tell_committed(self, session: Session, committed: Mapping[str, Any]) -> list[Effect]:
        model = BlobRef.model_validate(committed["model"])
        document = {
            "model": model_id(model),
            "ref": committed["model"],
            "parent": model_id(BlobRef.model_validate(committed["parent"])),
            "session": session.name,
            "round": committed["round"],
            "ledger": committed["ledger"],
            "metrics": {},
            "created_at": committed["committed_at"],
        }
        names = ("attempt", "seconds", "counts", "metrics", "total_weight")
        data = {"model": model_id(model), "sha256": model.sha256, **{name: committed[name] for name in names}}
        told = Emit(
            "round.committed", session.name, committed["round"], data=data,
            id=f"committed-{session.name}-{committed['round']}",
        )  # fmt: skip
        return [Put(records.MODELS, model_id(model), document, self.epoch), told]

    # -- validation -------------------------------------------------------------------------------------------------

    def _send_tests(
        self, session: Session, number: int, model: BlobRef, moment: Moment, only: str | None = None
    ) -> list[Effect]:
        """Validate plans for a committed model: to evaluators, and for the last model to all clients."""
        done = session.validated.get(model_id(model), {})
        everybody = self._assignment.eligible("validate")
        is_last = number == session.policy.rounds and session.policy.validate_models
        wanted = [c for c in everybody if c.name not in done and (is_last or "train" not in c.tasks)]
        if not wanted:
            return []
        session.tests[number] = model
        effects: list[Effect] = []
        groups = group_by_combiner([client.name for client in wanted], {c.name: c.combiner for c in wanted})
        for part, (combiner, clients) in enumerate(groups.items()):
            if only in (None, combiner):
                key = PlanKey(session=session.name, round=number, attempt=1, part=part, action="validate")
                timeout = session.policy.validation_timeout
                effects += self._publish_plan(session, key, combiner, clients, model, timeout)
        return effects

    def _open_window(self, session: Session, moment: Moment) -> list[Effect]:
        assert session.model is not None
        session.move(State.VALIDATING)
        last = session.policy.rounds
        effects = self._send_tests(session, last, session.model, moment)
        everybody = self._assignment.eligible("validate")
        wanted = {c.name for c in everybody if session.policy.validate_models or "train" not in c.tasks}
        session.expected = wanted - set(session.validated.get(model_id(session.model), {}))
        if not session.expected and not self._untested(session):
            return effects + self._finish(session, moment)
        timer = StartTimer(f"window:{session.name}", session.policy.validation_timeout)
        return [*effects, self._recorded(session), timer]

    def _untested(self, session: Session) -> list[int]:
        """Rounds whose models an evaluator that is there has not scored."""
        evaluators = {c.name for c in self._assignment.eligible("validate") if "train" not in c.tasks}
        return [
            number
            for number, model in session.tests.items()
            if evaluators - set(session.validated.get(model_id(model), {}))
        ]

    def validation(self, event: Received, body: messages.Validation, moment: Moment) -> list[Effect]:
        client = event.envelope.sender
        document = {
            "session": body.plan.session,
            "round": body.plan.round if body.plan.action == "validate" else body.plan.round - 1,
            "model": body.model.partition("/")[2],
            "client": client,
            "scope": body.scope,
            "weight": body.weight,
            "metrics": body.metrics,
            "reason": body.reason,
            "at": moment.wall,
        }
        model = document["model"]
        told = Emit(
            "model.validated", body.plan.session, document["round"], client,
            data={name: document[name] for name in ("model", "scope", "weight", "metrics", "reason")},
            id=f"validated-{model}-{client}",
        )  # fmt: skip
        effects: list[Effect] = [Put(records.VALIDATIONS, f"{model}/{client}", document, self.epoch), told]
        effects.append(Ack((event.tag,)))
        session = self._sessions.get(body.plan.session)
        if session is None:
            return effects
        session.validated.setdefault(model, {})[client] = document
        if session.state is not State.VALIDATING or session.model is None:
            return effects
        if model == model_id(session.model):
            session.expected.discard(client)
        if not session.expected and not self._untested(session):
            effects += self._finish(session, moment)
        return effects

    def _finish(self, session: Session, moment: Moment) -> list[Effect]:
        assert session.model is not None
        effects = [effect for model in session.tests.values() for effect in self._summarise(session, model)]
        effects += self._summarise(session, session.model)
        return effects + self._end(session, State.FINISHED, "", moment)

    def _summarise(self, session: Session, model: BlobRef) -> list[Effect]:
        """Records what is known of a model's metrics; evaluators' are prefixed `test/`."""
        results = session.validated.get(model_id(model), {})
        summary: dict[str, Any] = {}
        for scope, prefix in (("client", ""), ("test", "test/")):
            pairs = [(doc["weight"], doc["metrics"]) for doc in results.values() if doc["scope"] == scope]
            summary |= {f"{prefix}{name}": value for name, value in summarize(pairs).items()}
        return [Change(records.MODELS, model_id(model), {"metrics": summary}, self.epoch)] if summary else []

    # -- time -------------------------------------------------------------------------------------------------------

    def fired(self, kind: str, name: str, moment: Moment) -> list[Effect]:
        session = self._sessions.get(name)
        if session is None:
            return []
        if kind == "wait" and session.state is State.WAITING:
            reason = f"gave up {session.waiting} after {session.policy.wait:g} s"
            return self._end(session, State.FAILED, reason, moment)
        if kind == "window" and session.state is State.VALIDATING:
            return self._finish(session, moment)
        if kind == "round" and session.state is State.RUNNING and session.attempt is not None:
            late = [part for part in session.attempt.parts if part.is_open]
            effects: list[Effect] = []
            for part in late:
                part.voided = True
                effects += self._tell_voided(part, f"combiner {part.combiner} did not answer in time")
            return [self._record_attempt(session, moment), *effects, *self._commit_if_answered(session, moment)]
        return []

    # -- recovery ---------------------------------------------------------------------------------------------------

    def restore(self, snapshot: Iterable[operations.SessionSnapshot], next_position: int, moment: Moment) -> list[Effect]:
        """Goes on where the records say that the last reducer was."""
        self._sessions.clear()
        self._starting.clear()
        self._next_position = next_position
        effects: list[Effect] = []
        for found in snapshot:
            document = found.session
            policy = Policy.model_validate(document["policy"])
            session = Session(document["session"], policy, document["position"], document["random_seed"])
            session.stop_after_round = bool(document.get("stop_after_round"))
            self._sessions[session.name] = session
        for found in snapshot:
            session = self._sessions[found.session["session"]]
            if session is self.current and found.session["state"] != "queued":
                effects += self._resume(session, found, moment)
        return effects + self.pump(moment)

    def _resume(self, session: Session, found: operations.SessionSnapshot, moment: Moment) -> list[Effect]:
        session.validated = {model: dict(clients) for model, clients in found.validations.items()}
        session.began_at = moment.seconds
        effects: list[Effect] = []
        for committed in found.rounds:
            session.round = committed["round"]
            effects += self._tell_committed(session, committed) if committed is found.rounds[-1] else []
            self._adopt_round(session, committed)
            assert session.model is not None
            session.tests[committed["round"]] = session.model
        if found.attempts:
            self._adopt_attempt(session, found.attempts[-1])
        if session.model is None:
            session.state = State.QUEUED
            return []
        for number, model in list(session.tests.items()):
            if session.round <= session.policy.rounds or number < session.policy.rounds:
                effects += self._send_tests(session, number, model, moment)
        if session.round > session.policy.rounds:
            session.state = State.COMMITTING
            return effects + self._open_window(session, moment)
        if session.stop_after_round and not found.attempts:
            return effects + self._end(session, State.STOPPED, "stopped after the round", moment)
        if session.attempt is None:
            session.state = State.WAITING
            return effects + self._plan(session, moment)
        session.state = State.RUNNING
        for document in found.partials:
            partial = Partial.model_validate(document["partial"])
            part = session.attempt.part(partial.plan)
            if part is not None and part.is_open:
                part.partial = partial
        effects += self._send_plans(session, moment)
        return effects + self._commit_if_answered(session, moment)
