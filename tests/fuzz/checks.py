"""What must hold after an alliance was fuzzed. Each check returns what is wrong, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from fedmq import aggregation, codec, tensors
from fedmq.errors import LONGEST_REASON, ProtocolError
from fedmq.tensors.tensorblob import Source
from fedmq_schemas import records as tables
from fedmq_schemas.policy import DEFAULT_RULE
from fedmq_schemas.records import Ledger
from fuzz.alliance import COMBINERS, HONEST, FuzzedAlliance
from fuzz.member import ME
from fuzz.messages import Sent
from simulation.alliance import ALLIANCE


def faults(run: FuzzedAlliance, has_ended: bool, undisturbed: list[tuple[int, str]]) -> list[str]:
    """Returns everything that is wrong after the run. `undisturbed`: the models of the session without the messages."""
    found = [*run.refusals.errors[:3], *run.observed.broken[:3]]
    state = run.ended.get(run.sessions[0], {"state": "not ended", "reason": ""})
    if not has_ended or state["state"] != "finished":
        found.append(f"the session is {state['state']}: {state['reason']}")
    elif run.is_member:
        found += _wrong_models(run)
    elif run.models() != undisturbed:
        found.append(f"the models are {run.models()}, those of an undisturbed run are {undisturbed}")
    names = {"reducer1", "recorder", *COMBINERS, *HONEST}
    if missing := sorted(name for name in names if not run.world.alive(name)):
        found.append(f"these processes have ended: {missing}")
    return [*found, *run.left_over(), *_without_reason(run), *_without_trace(run)]


def counts(run: FuzzedAlliance) -> Counter[str]:
    """Returns the numbers of messages by what became of them."""
    accepted = run.world.records.inner.count(tables.EVENTS, {"name": "update.accepted", "client": ME})
    numbers = {"sent": len(run.sent), "refused": len(run.letters), "turned_away": run.refusals.away}
    return Counter({**numbers, "own_updates_accepted": accepted})


def _wrong_models(run: FuzzedAlliance) -> Iterator[str]:
    """Yields the rounds whose model is not what the updates in the ledger give, or whose ledger lacks an honest client."""
    blobs, strategy = run.world.blobs, run.plan.sessions[0].strategy
    optimizer = aggregation.server_optimizer(strategy.name)
    for committed in run.world.records.inner.find(tables.ROUNDS, {"session": run.sessions[0]}, order="round"):
        ledger = Ledger.model_validate_json(blobs.ever(committed["ledger"]["key"]))
        accepted = [entry for entry in ledger.entries if entry.outcome == "accepted"]
        if missing := set(HONEST) - {entry.client for entry in accepted}:
            yield f"round {committed['round']} has no updates of {sorted(missing)}"
        parent, meta = tensors.decode(blobs.ever(ledger.parent.key))
        updates = [(entry.weight, Source(blobs.ever(entry.blob.key))) for entry in accepted if entry.blob is not None]
        state = tensors.decode(blobs.ever(ledger.optimizer.key))[0] if ledger.optimizer else None
        parameters = optimizer.configure(strategy.parameters)
        new, _ = aggregation.replay(parent, meta, DEFAULT_RULE, ledger.exponents, updates, optimizer, parameters, state)
        if tensors.encode(new, meta) != blobs.ever(committed["model"]["key"]):
            yield f"the model of round {committed['round']} is not what its ledger's updates give"


def _without_reason(run: FuzzedAlliance) -> Iterator[str]:
    """Yields the dead letters that are not the account's, have no reason, or are reported by no event."""
    refused = run.world.records.inner.find(tables.EVENTS, {"name": "message.refused"})
    reported = Counter(event["data"]["reason"] for event in refused if event["sender"] != ME)
    for letter in run.letters:
        reason = str(letter.headers.get("x-fedmq-reason", ""))
        if not 0 < len(reason) <= LONGEST_REASON or "\0" in reason:
            yield f"the dead letter {letter.message_id} has the reason {reason!r}"
        if letter.headers.get("x-fedmq-sender") != ME:
            yield f"a message of {letter.headers.get('x-fedmq-sender')} was refused: {reason}"
        if letter.routing_key != ALLIANCE.records().name:
            reported[reason] -= 1
    for reason, count in reported.items():
        if count < 0:
            yield f"no event reports {-count} dead letters: {reason}"


def _without_trace(run: FuzzedAlliance) -> Iterator[str]:
    """Yields how many messages that can't be decoded are neither dead letters nor counted as turned away."""
    invalid = {message.message_id for message in run.routed if not is_valid(message)}
    missing = invalid - {letter.message_id for letter in run.letters}
    if len(missing) > run.refusals.away:
        away = run.refusals.away
        yield f"{len(missing)} invalid messages left no trace, {away} were turned away: {sorted(missing)[:3]}"


def is_valid(message: Sent) -> bool:
    """Returns whether a message of the account keeps the contract."""
    alliance = ALLIANCE.alliance
    try:
        codec.decode(message.body, message.content_type, message_id=message.message_id, alliance=alliance, user=ME)
    except ProtocolError:
        return False
    return True
