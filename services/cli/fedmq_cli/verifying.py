"""`fedmq model verify`: a round computed again, from its parent and the updates that its ledger names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedmq import aggregation
from fedmq.errors import InvalidUpdate, NotFound
from fedmq.tensors import tensorblob
from fedmq.tensors.tensorblob import Source
from fedmq_schemas import keys
from fedmq_schemas.messages import BlobRef
from fedmq_schemas.policy import Strategy
from fedmq_schemas.records import Ledger, LedgerEntry, is_kept

if TYPE_CHECKING:
    from fedmq_sdk import Alliance


def verdict_on(trail: Alliance, model_id: str) -> dict[str, Any]:
    """Returns `outcome` (same, different or partly), `verdict` (a sentence), `checked` (what was compared) and `parent`."""
    document = trail.model(model_id)
    checked: list[str] = []
    verdict = {"model": document["model"], "parent": document["parent"], "checked": checked}
    reference = BlobRef.model_validate(document["ref"])
    try:
        model = trail.blob(reference) if is_kept(document) else None
        if model is not None:
            checked.append(f"model: {reference.size} bytes, sha256 {reference.sha256[:12]}… as recorded")
        if document["ledger"] is None:
            return {**verdict, "outcome": "same", "verdict": "a seed, as recorded; no round made it", "parent": None}
        ledger = Ledger.model_validate_json(trail.blob(BlobRef.model_validate(document["ledger"])))
        _check_ledger(ledger, document, checked)
        for what, is_there in (("it", model is not None), ("its parent", is_kept(trail.model(document["parent"])))):
            if not is_there:
                sentence = f"{what} was let go (retention.keep_models): the ledger agrees, the sum was not recomputed"
                return {**verdict, "outcome": "partly", "verdict": sentence}
        parent = trail.blob(ledger.parent)
        checked.append(f"parent: {keys.model_id(ledger.parent.key)}, as the ledger says")
    except InvalidUpdate as error:
        return {**verdict, "outcome": "different", "verdict": error.reason}
    accepted = [entry for entry in ledger.entries if entry.outcome == "accepted"]
    try:
        again = _recompute(trail, parent, ledger, accepted)
    except NotFound as error:
        sentence = f"its updates are gone ({error.reason}): hashes and counts agree, the sum was not recomputed"
        return {**verdict, "outcome": "partly", "verdict": sentence}
    except InvalidUpdate as error:
        return {**verdict, "outcome": "different", "verdict": error.reason}
    checked.append(f"updates: {len(accepted)}, each with the hash in the ledger, aggregated again")
    if again == model:
        outcome, sentence = "same", "recomputed: the same bytes"
    else:
        outcome, sentence = "different", "recomputed, and the bytes differ"
    return {**verdict, "outcome": outcome, "verdict": sentence}


def _check_ledger(ledger: Ledger, document: dict[str, Any], checked: list[str]) -> None:
    named = (document["session"], document["round"], document["parent"])
    if (ledger.session, ledger.round, keys.model_id(ledger.parent.key)) != named:
        raise InvalidUpdate("the ledger is of another round or parent than the model's record")
    clients = [entry.client for entry in ledger.entries]
    if len(set(clients)) != len(clients):
        raise InvalidUpdate("a client is in the ledger twice")
    weight = sum(entry.weight for entry in ledger.entries if entry.outcome == "accepted")
    if weight != ledger.total_weight:
        raise InvalidUpdate(f"the accepted weights are {weight} together, the ledger says {ledger.total_weight}")
    checked.append(f"ledger: {len(clients)} tasks, each client once, total weight {weight}")


def _recompute(trail: Alliance, parent: bytes, ledger: Ledger, accepted: list[LedgerEntry]) -> bytes:
    weights, meta = tensorblob.decode(parent)
    strategy = Strategy.model_validate(ledger.strategy)
    optimizer = aggregation.server_optimizer(strategy.name)
    parameters = optimizer.configure(strategy.parameters)
    state = tensorblob.decode(trail.blob(ledger.optimizer))[0] if ledger.optimizer else None

    updates = ((entry.weight, Source(trail.blob(entry.blob))) for entry in accepted if entry.blob is not None)
    new, _ = aggregation.replay(weights, meta, strategy.rule, ledger.exponents, updates, optimizer, parameters, state)
    return tensorblob.encode(new, meta)
