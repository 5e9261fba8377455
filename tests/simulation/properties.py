"""What must hold after every run, whatever befell it. Each check returns what is wrong, in words."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from fedmq import aggregation, tensors
from fedmq.errors import NotFound
from fedmq.tensors.tensorblob import Source
from fedmq_combiner.documents import task_seed
from fedmq_reducer.selection import best_model
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef, PlanKey
from fedmq_schemas.policy import Policy, weight_of
from fedmq_schemas.records import Ledger, LedgerEntry, is_kept
from simulation.alliance import Simulation
from simulation.plans import FAULTS_END, FaultPlan
from simulation.training import train, whole_session

EXPECTED = re.compile(r"round \d+ got \d+ updates of \d+ in |gave up waiting for clients")
"""Why a session may fail: too few clients, or too few updates. All else is a fault of ours."""


def deadline(plan: FaultPlan) -> float:
    """When the last session must have ended, by its own numbers: each reducer that takes over may start the time of the
    open attempt, or of a wait, anew."""
    takeovers = sum(blow.target in plan.reducers for blow in plan.blows) * 2
    takeovers += sum(ambush.process in plan.reducers for ambush in plan.ambushes) * 2 + 2
    takeovers += len(plan.stalls) * 2
    total = FAULTS_END + 60.0
    for policy in plan.sessions:
        attempts = policy.rounds * (policy.retries + 1) + takeovers
        total += attempts * (policy.timeout * 1.1 + 5.0 + policy.wait) + (takeovers + 1) * policy.validation_timeout
    return total


def violations(run: Simulation, all_ended: bool) -> list[str]:
    """Everything that is wrong with a finished run."""
    found = [f"error: {error}" for error in run.observed.errors[:3]]
    found += run.observed.broken
    if not all_ended:
        unfinished = [session for session in run.sessions if session not in run.ended]
        return [*found, f"G3: {', '.join(unfinished)} had not ended at {run.world.scheduler.now():.0f} s"]
    found += run.left_over()
    for session, policy in zip(run.sessions, run.plan.sessions, strict=True):
        found += _session(run, session, policy)
    return found


def _session(run: Simulation, session: str, policy: Policy) -> Iterator[str]:
    store = run.world.records.inner
    document = store.get(tables.SESSIONS, session)
    assert document is not None
    rounds = store.find(tables.ROUNDS, {"session": session}, order="round")
    if [committed["round"] for committed in rounds] != list(range(1, len(rounds) + 1)):
        yield f"{session}: rounds {[committed['round'] for committed in rounds]} are committed"
    if document["state"] == "finished" and len(rounds) != policy.rounds:
        yield f"{session} is finished with {len(rounds)} of {policy.rounds} rounds"
    if document["state"] == "failed" and not EXPECTED.match(document["reason"]):
        yield f"{session} failed: {document['reason'] or 'without a reason'}"
    parent = None
    for committed in rounds:
        if parent is not None and committed["parent"] != parent:
            yield f"{session}: round {committed['round']} does not start from the model of the round before"
        parent = committed["model"]
        yield from _round(run, session, policy, document, committed)
    yield from _events(run, session, document, rounds)
    yield from _validations(run, session, document)
    yield from _retention(run, session, policy)
    if run.plan.kind != "wild":
        yield from _as_foreseen(run, session, policy, document, rounds)


def _round(
    run: Simulation, session: str, policy: Policy, document: Mapping[str, Any], committed: Mapping[str, Any]
) -> Iterator[str]:
    """G1, G4 and G6: the model is made of the ledger's updates, of these alone, each once."""
    blobs, name = run.world.blobs, f"{session} round {committed['round']}"
    ledger = Ledger.model_validate_json(blobs.get(BlobRef.model_validate(committed["ledger"]).key))
    clients = [entry.client for entry in ledger.entries]
    if len(set(clients)) != len(clients):
        yield f"G1: {name}: a client is in the ledger twice: {clients}"
    accepted = {entry.client: entry for entry in ledger.entries if entry.outcome == "accepted"}
    if (
        sum(entry.weight for entry in accepted.values()) != committed["total_weight"]
        or ledger.total_weight != committed["total_weight"]
    ):
        yield f"G1: {name}: the ledger's weights are not {committed['total_weight']}"
    if len(accepted) < policy.clients_required:
        yield f"{name}: {len(accepted)} updates of {policy.clients_required} made a model"
    yield from _unchanged(run, name, accepted.values())
    plans = _plans_of(run, session, committed)
    if plans != {str(plan) for plan in ledger.plans}:
        yield f"G1: {name}: the ledger is of plans {[str(p) for p in ledger.plans]}, current are {sorted(plans)}"
    examples = {client.name: client.examples for client in run.plan.clients}
    parent = blobs.ever(ledger.parent.key)
    weights, meta = tensors.decode(parent)
    pairs = []
    for client, entry in accepted.items():
        if entry.weight != weight_of(policy.weighting, examples[client]):
            yield f"G1: {name}: {client} weighs {entry.weight}"
        pairs.append(
            (entry.weight, train(parent, client, task_seed(document["random_seed"], committed["round"], client)))
        )
    optimizer = aggregation.server_optimizer(policy.strategy.name)
    state = tensors.decode(blobs.ever(ledger.optimizer.key))[0] if ledger.optimizer else None
    new, _ = aggregation.replay(
        weights,
        meta,
        policy.strategy.rule,
        ledger.exponents,
        [(weight, Source(update)) for weight, update in pairs],
        optimizer,
        optimizer.configure(policy.strategy.parameters),
        state,
    )
    model = blobs.ever(committed["model"]["key"])
    if tensors.encode(new, meta) != model:
        yield f"G1/G4: {name}: the model is not what the ledger's updates give"
    if policy.strategy.name == "fedavg":
        yield from _plain_mean(name, weights, model, pairs)


def _unchanged(run: Simulation, name: str, accepted: Iterable[LedgerEntry]) -> Iterator[str]:
    """What was folded lies under a key that holds its hash, and is what it was: `fedmq model verify` finds it."""
    for entry in accepted:
        assert entry.blob is not None
        if hashlib.sha256(run.world.blobs.ever(entry.blob.key)).hexdigest() != entry.blob.sha256:
            yield f"G6: {name}: the update of {entry.client} is not what was folded"
        if not entry.blob.key.endswith(f"/{entry.client}/{entry.blob.sha256}"):
            yield f"G6: {name}: the update of {entry.client} lies under {entry.blob.key}"


def _plain_mean(name: str, weights: Mapping[str, Any], model: bytes, pairs: list[tuple[int, bytes]]) -> Iterator[str]:
    """The same again, in exact fractions."""
    total = sum(weight for weight, _ in pairs)
    deltas = [(weight, tensors.decode(update)[0]) for weight, update in pairs]
    new = tensors.decode(model)[0]
    for tensor in ("layer", "spread"):
        for index in range(weights[tensor].size):
            mean = sum(Fraction(float(delta[tensor][index])) * weight for weight, delta in deltas) / total
            expected = np.float32(float(Fraction(float(weights[tensor][index])) + mean))
            if abs(float(new[tensor][index]) - float(expected)) > 1e-6 * max(1.0, abs(float(expected))):
                yield f"G1: {name}: {tensor}[{index}] is {new[tensor][index]}, the weighted mean gives {expected}"


def _plans_of(run: Simulation, session: str, committed: Mapping[str, Any]) -> set[str]:
    key = keys.attempt_record(session, committed["round"], committed["attempt"])
    attempt = run.world.records.inner.get(tables.ATTEMPTS, key)
    assert attempt is not None
    number, tried = committed["round"], committed["attempt"]
    parts = [plan["part"] for plan in attempt["plans"] if not plan["voided"]]
    return {str(PlanKey(session=session, round=number, attempt=tried, part=part)) for part in parts}


def _events(run: Simulation, session: str, document: Mapping[str, Any], rounds: Any) -> Iterator[str]:
    """What was reported is what is recorded."""
    models = {committed["round"]: committed["model"]["sha256"] for committed in rounds}
    reported = set()
    for event in run.observed.named("round.committed"):
        if event.session == session:
            reported.add(event.round)
            if models.get(event.round or 0) != event.data["sha256"]:
                yield f"{session}: the event of round {event.round} tells a model that is not recorded"
    if missing := sorted(set(models) - reported):
        yield f"{session}: rounds {missing} are committed and no event reports it"
    for committed in rounds:
        name = keys.model_id(committed["model"]["key"])
        if run.world.records.inner.get(tables.MODELS, name) is None:
            yield f"{session}: model {name} is not recorded"
    endings = {e.name for e in run.observed.events if e.session == session} & {f"session.{s}" for s in tables.ENDED}
    if endings - {f"session.{document['state']}"}:
        yield f"{session} is {document['state']}, reported was {sorted(endings)}"
    if not endings:
        yield f"{session} is {document['state']} and no event reports it"


def _validations(run: Simulation, session: str, document: Mapping[str, Any]) -> Iterator[str]:
    """Each client that a finished session has requested to validate a model has done so, or is reported."""
    if document["state"] != "finished":
        return
    absent = [event for event in run.observed.named("validation.absent") if event.session == session]
    for number in sorted(number for name, number in run.observed.requested if name == session):
        validated = run.world.records.inner.find(tables.VALIDATIONS, {"session": session, "round": number})
        settled = {each["client"] for each in validated} | {event.client for event in absent if event.round == number}
        if silent := sorted(run.observed.requested[session, number] - settled):
            yield f"{session}: {silent} have not validated the model of round {number}, and no event reports it"
    for event in absent:
        if event.client not in run.observed.requested.get((session, event.round or 0), ()):
            yield f"{session}: {event.client} is absent of round {event.round}, and had no plan to validate its model"


def _retention(run: Simulation, session: str, policy: Policy) -> Iterator[str]:
    """The last model, the best and every so many-th have their bytes; all others are let go, and were deleted."""
    models = run.world.records.inner.find(tables.MODELS, {"session": session}, order="round")
    every, select = policy.retention.keep_models, policy.select
    best: dict[str, Any] = {}
    with contextlib.suppress(NotFound):
        best = best_model([{**model, "kept": True} for model in models], select.metric, select.mode)
        if not is_kept(run.world.records.inner.get(tables.MODELS, best["model"]) or {}):
            yield f"{session}: the best model, of round {best['round']}, was let go"
    for model in models:
        name, key = f"{session}: the model of round {model['round']}", model["ref"]["key"]
        is_regular = every == "all" or bool(every and model["round"] % every == 0)
        if is_kept(model):
            if not run.world.blobs.holds(key):
                yield f"{name} is kept and has no bytes"
            if not is_regular and model["round"] != len(models) and (not best or best["round"] != model["round"]):
                yield f"{name} is still kept"
            continue
        if is_regular or model["round"] == len(models):
            yield f"{name} was let go"
        if not model["deleted"] or key not in run.world.blobs.deleted:
            yield f"{name} was let go and not deleted"


def _as_foreseen(
    run: Simulation, session: str, policy: Policy, document: Mapping[str, Any], rounds: Any
) -> Iterator[str]:
    """G2: every outage was shorter than the slack, so the models are those of the undisturbed run."""
    if document["state"] != "finished":
        yield f"G2: {session} is {document['state']}: {document['reason']}"
        return
    if late := [committed["round"] for committed in rounds if committed["attempt"] != 1]:
        yield f"G2: {session}: rounds {late} had to be attempted again"
    if run.plan.kind == "slack":
        examples = {client.name: client.examples for client in run.plan.trainers}
        first = run.world.blobs.ever(keys.model_blob(document["seed"]))
        models = whole_session(first, policy, document["random_seed"], examples)
        for committed, model in zip(rounds, models, strict=False):
            if run.world.blobs.ever(committed["model"]["key"]) != model:
                yield f"G2: {session}: the model of round {committed['round']} is not the undisturbed run's"
                return
