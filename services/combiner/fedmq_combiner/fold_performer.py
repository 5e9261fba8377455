"""Performs a combiner's work on tensors: one open aggregation rule per plan, checkpoints, partials and ledgers."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmq.aggregation import Rule, open_rule
from fedmq.blobs.base import Blobs
from fedmq.blobs.sources import IN_MEMORY, copy_verified, model_spec, open_source
from fedmq.errors import InvalidUpdate, NotFound, Refused
from fedmq.runtime.later import Later
from fedmq.tensors import Spec
from fedmq.tensors.tensorblob import Source
from fedmq_combiner.documents import without
from fedmq_combiner.operations import Close, Closed, Drop, Fold, Folded, Open, Opened, Save
from fedmq_schemas import keys
from fedmq_schemas.messages import BlobRef, Plan, PlanKey
from fedmq_schemas.records import Ledger, LedgerEntry

HEADER, HEADER_OF_TENSOR, HEADER_OF_NAME = 65_536, 400, 12
"""Most bytes of an update's header: in all, for each tensor, and for each byte of its name, which stands there twice."""


def largest_update(spec: Spec) -> int:
    """Returns the size in bytes that no valid update of a model of this shape exceeds."""
    numbers = sum(tensor.delta_size * tensor.delta_dtype.itemsize for tensor in spec.values())
    return numbers + HEADER + sum(HEADER_OF_TENSOR + HEADER_OF_NAME * len(name.encode()) for name in spec)


@dataclass(slots=True)
class PlanFolding:
    """A plan's open rule."""

    plan: Plan
    rule: Rule
    lock: threading.Lock = field(default_factory=threading.Lock)


class FoldPerformer:
    """The performers of one combiner.

    Tensors in memory: what each plan's rule holds (the exact sum: one int64 model), one block, and an update of less
    than 1 MB while it is folded. Larger updates and partials pass through files in `scratch`.

    `post`: runs a callback on the actor's thread, after what was posted before. Small updates that arrive in one turn
    are then folded in the next, one after the other, while the arithmetic's code and data are in the processor's cache.
    None: the blob store is a server, so folds run off the actor's thread.
    """

    def __init__(
        self, combiner: str, blobs: Blobs, scratch: Path, post: Callable[[Callable[[], None]], None] | None = None
    ) -> None:
        self._combiner = combiner
        self._blobs = blobs
        self._scratch = scratch
        self._post = post
        self._gathered: list[tuple[Fold, Later]] = []
        self._foldings: dict[tuple[str, int], PlanFolding] = {}
        self._specs: dict[str, Spec] = {}

    def performers(self) -> dict[type[Any], Callable[[Any], Any]]:
        """Returns what performs each kind of effect."""
        return {Open: self.open, Fold: self.fold, Save: self.save, Close: self.close, Drop: self.drop}

    def open(self, effect: Open) -> Opened:
        """Opens the plan's rule, and merges the partial of its checkpoint if there is one."""
        plan, key = effect.plan, str(effect.plan.plan)
        clients = plan.clients
        if plan.clients_ref is not None:
            clients = tuple(json.loads(self._blobs.load(plan.clients_ref)))
        if plan.plan.action == "validate":
            return Opened(clients, ())
        rule = self._open_rule(plan)
        saved: tuple[LedgerEntry, ...] = ()
        try:
            checkpoint = json.loads(self._blobs.get(keys.checkpoint_blob(plan.plan, self._combiner)))
        except NotFound:
            checkpoint = None
        if checkpoint is not None:
            saved = tuple(LedgerEntry.model_validate(entry) for entry in checkpoint["entries"])
            if checkpoint["sum"] is not None:
                with open_source(self._blobs, BlobRef.model_validate(checkpoint["sum"]), self._scratch) as source:
                    rule.fold_partial(source)
        most = largest_update(rule.spec)
        for older in [known for known in self._foldings if known[0] == key and known[1] < effect.incarnation]:
            del self._foldings[older]
        self._foldings[key, effect.incarnation] = PlanFolding(plan, rule)
        return Opened(clients, saved, most, self._blobs.binds_uploads())

    def fold(self, effect: Fold) -> Folded | Later:
        """Folds an update, now or in the next turn; only checks it if the rule needs all. Raises InvalidUpdate."""
        if self._post is None or effect.heavy:
            return self._fold(effect)
        later = Later()
        self._gathered.append((effect, later))
        if len(self._gathered) == 1:
            self._post(self._fold_gathered)
        return later

    def _fold_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        outcomes: list[Folded | Exception] = []
        for effect, _ in gathered:
            try:
                outcomes.append(self._fold(effect))
            except Exception as error:  # reported as this fold's own
                outcomes.append(error)
        for (_, later), outcome in zip(gathered, outcomes, strict=True):
            if isinstance(outcome, Exception):
                later.complete(error=outcome)
            else:
                later.complete(outcome)

    def _fold(self, effect: Fold) -> Folded:
        folding = self._folding(effect.plan, effect.incarnation)
        rule, blob = folding.rule, self._settled(folding.plan.plan, effect.client, effect.blob)
        with self._update(blob) as update, folding.lock:
            take = rule.check if rule.needs_every_update else rule.fold
            return Folded(take(update, effect.weight, folding.plan.max_norm).norm, blob)

    def _settled(self, plan: PlanKey, client: str, blob: BlobRef) -> BlobRef:
        """Returns the update under the key that holds its hash. Copies an upload that its client may overwrite.

        Such uploads come from clients without tickets, and over a store that does not bind uploads.
        """
        key = keys.update_blob(plan.session, plan.round, client, blob.sha256)
        if blob.key == key:
            return blob
        try:
            return copy_verified(self._blobs, blob, key, self._scratch)
        except NotFound as error:
            raise _absent(blob) from error

    def save(self, effect: Save) -> None:
        """Writes a checkpoint. That of a rule that needs all updates at once names them, and has no partial."""
        folding = self._folding(effect.plan, effect.incarnation)
        with folding.lock:
            ref = self._write(folding.plan, folding.rule, keys.checkpoint_sum_blob) if folding.rule.count else None
        document = {
            "sum": ref.model_dump() if ref else None,
            "entries": [entry.model_dump(mode="json") for entry in effect.entries],
        }
        self._blobs.put(keys.checkpoint_blob(folding.plan.plan, self._combiner), json.dumps(document).encode())

    def close(self, effect: Close) -> Closed:
        """Writes the partial and the ledger, and forgets the plan's rule."""
        key = str(effect.plan.plan)
        folding = self._foldings.get((key, effect.incarnation))
        ref, total_weight, ledger = None, 0, effect.ledger
        rejected: tuple[LedgerEntry, ...] = ()
        if folding is not None:
            with folding.lock, ExitStack() as opened:
                rule = folding.rule
                if rule.needs_every_update:
                    rule, rejected = self._fold_accepted(folding, ledger, opened)
                    ledger = without(ledger, rejected)
                if rule.count:
                    ref, total_weight = self._write(folding.plan, rule, keys.partial_sum_blob), rule.total_weight
        data = ledger.model_dump_json().encode()
        sha256 = hashlib.sha256(data).hexdigest()
        stored = self._blobs.put(keys.partial_ledger_blob(effect.plan.plan, self._combiner, sha256), data)
        self.drop(Drop(key, effect.incarnation))
        return Closed(ref, stored, total_weight, rejected)

    def drop(self, effect: Drop) -> None:
        """Forgets the plan's rule."""
        self._foldings.pop((effect.plan, effect.incarnation), None)

    def _folding(self, plan: str, incarnation: int) -> PlanFolding:
        try:
            return self._foldings[plan, incarnation]
        except KeyError:
            raise Refused(f"plan {plan} has been dropped meanwhile") from None

    def _open_rule(self, plan: Plan) -> Rule:
        if plan.model.key not in self._specs:
            self._specs = {plan.model.key: model_spec(self._blobs, plan.model.key, plan.model.size)}
        return open_rule(plan.rule, self._specs[plan.model.key], plan.exponents)

    def _fold_accepted(
        self, folding: PlanFolding, ledger: Ledger, opened: ExitStack
    ) -> tuple[Rule, tuple[LedgerEntry, ...]]:
        """Returns a rule to which all accepted updates are added, and the entries of those that it rejects now.

        An update may have changed in the store since it was accepted, as by a fault of its disk: that must cost only its own
        part. The updates stay readable until `opened` is closed. The plan's own rule stays empty, so that this can be tried
        again.
        """
        rule = self._open_rule(folding.plan)
        rejected: list[LedgerEntry] = []
        for entry in ledger.entries:
            if entry.outcome == "accepted" and entry.blob is not None:
                try:
                    update = opened.enter_context(self._update(entry.blob))
                    rule.fold(update, entry.weight, folding.plan.max_norm)
                except InvalidUpdate as error:
                    rejected.append(entry.model_copy(update={"outcome": "rejected", "reason": error.reason}))
        return rule, tuple(rejected)

    def _update(self, blob: BlobRef) -> Source:
        try:
            return open_source(self._blobs, blob, self._scratch)
        except NotFound as error:
            raise _absent(blob) from error

    def _write(self, plan: Plan, rule: Rule, key: Callable[[PlanKey, str, str], str]) -> BlobRef:
        """Stores a partial under a key that holds its hash, so that a reader never gets half of a newer one."""
        if plan.model.size <= IN_MEMORY:
            data = rule.dump()
            return self._blobs.put(key(plan.plan, self._combiner, hashlib.sha256(data).hexdigest()), data)
        self._scratch.mkdir(parents=True, exist_ok=True)
        path = self._scratch / f"sum-{threading.get_ident()}"
        try:
            with path.open("wb") as file:
                rule.write(file)
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return self._blobs.put(key(plan.plan, self._combiner, sha256), path)
        finally:
            path.unlink(missing_ok=True)


def _absent(blob: BlobRef) -> InvalidUpdate:
    return InvalidUpdate(f"its blob {blob.key!r} is not in the store")
