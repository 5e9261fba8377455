"""Performs a reducer's work on blobs: opening a seed, and making the next model of partials."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedmq import aggregation
from fedmq.aggregation import Rule, in_plan_order, open_rule
from fedmq.blobs.base import Blobs
from fedmq.blobs.sources import model_header, model_spec, open_source
from fedmq.codec import explain
from fedmq.errors import ConfigError, InvalidUpdate, NotFound, Refused
from fedmq.metrics import summarize
from fedmq.records.base import Records
from fedmq.tensors import Spec, check_roles_stated, spec_of, tensorblob
from fedmq.tensors.opaque import why_one_client
from fedmq.tensors.splitting import join, split
from fedmq_reducer import operations
from fedmq_reducer.operations import Aggregate, OpenSeed, PutBlob, RecordParticipation
from fedmq_reducer.retention import check_kept
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef, PlanKey
from fedmq_schemas.policy import Strategy, Tensors, weight_objection
from fedmq_schemas.records import Ledger, LedgerEntry, ModelRecord, Participation, count_outcomes, is_kept

PIECE = 1 << 20
SHOWN = 5


class AggregationPerformer:
    """The performers of one reducer.

    Tensors in memory: the model, what its rule holds (the exact sum: one int64 model) and the rule's result (float64).
    The ledger that was written last stays there too, as its participation is recorded next.
    """

    def __init__(self, blobs: Blobs, records: Records, scratch: Path, wall: Callable[[], float] = time.time) -> None:
        self._blobs = blobs
        self._records = records
        self._scratch = scratch
        self._wall = wall
        self._newest: tuple[BlobRef, Ledger] | None = None

    def performers(self) -> dict[type[Any], Callable[[Any], Any]]:
        """Returns what performs each kind of effect."""
        return {
            OpenSeed: self.open_seed,
            Aggregate: self.aggregate,
            PutBlob: lambda effect: self._blobs.put(effect.key, effect.data),
            RecordParticipation: self.record_participation,
        }

    # -- seeds ------------------------------------------------------------------------------------------------------

    def open_seed(self, effect: OpenSeed) -> operations.OpenedSeed:
        """Performs `OpenSeed`. Raises ConfigError, NotFound, or InvalidUpdate if the blob is not a model."""
        check_strategy(effect.strategy)
        seed = self._find_model(effect.seed)
        model, base = seed.ref, None
        if seed.base is not None or effect.tensors != Tensors():
            model, base = self._split(seed, effect.tensors)
        spec = model_spec(self._blobs, model.key, model.size)
        if why := why_one_client(spec, effect.clients_requested):
            raise ConfigError(why)
        exponents = aggregation.initial_exponents(spec, effect.weights)
        return operations.OpenedSeed(seed.model, model, in_plan_order(exponents), base)

    def _split(self, seed: ModelRecord, tensors: Tensors) -> tuple[BlobRef, BlobRef | None]:
        """Returns what of a seed is trained together, and its base. Raises ConfigError if the policy does not fit."""
        weights, meta = tensorblob.decode(self._blobs.get(seed.ref.key))
        if seed.base is not None:
            weights, meta = join(weights, meta, *tensorblob.decode(self._blobs.get(seed.base.key)))
        shared, shared_meta, rest, rest_meta = split(weights, meta, tensors)
        data = tensorblob.encode(shared, shared_meta)
        model = keys.shared_model(seed.model, _sha256(data))
        ref = self._blobs.put(keys.model_blob(model), data)
        base = None
        if rest:
            data = tensorblob.encode(rest, rest_meta)
            base = self._blobs.put(keys.base_blob(seed.model, _sha256(data)), data)
        record = ModelRecord(model=model, ref=ref, base=base, parent=seed.model, round=0, created_at=self._wall())
        self._records.insert(record.table, record.key, record.document())
        return ref, base

    def _find_model(self, seed: str | None) -> ModelRecord:
        if seed is None:
            for newest in self._records.find(tables.MODELS, order="created_at", descending=True, limit=100):
                if is_kept(newest):
                    return ModelRecord.model_validate(newest)
            unknown = list(self._blobs.list(keys.ALL_MODELS))
            if len(unknown) != 1:
                raise NotFound(_which([keys.model_id(info.key) for info in unknown]))
            return self._adopt(keys.model_id(unknown[0].key))
        name = keys.named_model(seed)
        found = self._records.get(tables.MODELS, name)
        if found is None:
            return self._adopt(name)
        check_kept(found)
        return ModelRecord.model_validate(found)

    def _adopt(self, name: str) -> ModelRecord:
        """Makes a seed of a blob that somebody put into bucket `models`: hashes, checks and records it."""
        key = keys.model_blob(name)
        try:
            size = self._blobs.stat(key).size
        except NotFound:
            raise NotFound(f"there is no model {name!r}: see `fedmq models`, or upload it to bucket models") from None
        digest = hashlib.sha256()
        for offset in range(0, size, PIECE):
            digest.update(self._blobs.read(key, offset, PIECE))
        try:
            tensors, meta = model_header(self._blobs, key, size)
            spec_of(tensors, meta)
        except InvalidUpdate as error:
            raise InvalidUpdate(f"{name!r} in bucket models is no model (safetensors): {error.reason}") from error
        check_roles_stated(tensors, meta)
        ref = BlobRef(key=key, size=size, sha256=digest.hexdigest())
        record = ModelRecord(model=name, ref=ref, round=0, created_at=self._wall())
        existing = self._records.insert(record.table, record.key, record.document())
        return record if existing is None else ModelRecord.model_validate(existing)

    # -- the commit -------------------------------------------------------------------------------------------------

    def aggregate(self, effect: Aggregate) -> operations.Aggregated:
        """Performs `Aggregate`. Raises Refused for a ledger that is unreadable or against the policy, or InvalidUpdate."""
        ledgers = [self._read_ledger(partial.ledger) for partial in effect.partials]
        entries = self._disjoint(ledgers)
        _check_weights(effect, entries)
        weights, meta = tensorblob.decode(self._blobs.get(effect.model.key))
        spec = spec_of(weights, meta)
        total = self._merge(effect, spec)
        self._check(total, entries)
        optimizer = aggregation.server_optimizer(effect.strategy.name)
        parameters = optimizer.configure(effect.strategy.parameters)
        state = tensorblob.decode(self._blobs.get(effect.optimizer.key))[0] if effect.optimizer else None
        new, after = aggregation.next_model(weights, spec, total.finish(), optimizer, parameters, state)
        model = self._put_model(effect, tensorblob.encode(new, meta))
        kept = tensorblob.encode(after) if after else None
        stored = None
        if kept is not None:
            stored = self._blobs.put(keys.optimizer_blob(effect.session, effect.round, _sha256(kept)), kept)
        ledger = self._put_ledger(effect, entries, [key for led in ledgers for key in led.plans])
        return operations.Aggregated(
            model=model,
            optimizer=stored,
            ledger=ledger,
            total_weight=total.total_weight,
            counts=count_outcomes(entries),
            metrics=summarize((entry.weight, entry.metrics) for entry in entries if entry.outcome == "accepted"),
            exponents=in_plan_order(total.next_exponents()),
            bytes={
                "down": effect.model.size * len(entries),
                "up": sum(entry.blob.size for entry in entries if entry.blob is not None),
            },
        )

    def _read_ledger(self, ref: BlobRef) -> Ledger:
        try:
            return Ledger.model_validate_json(self._blobs.get(ref.key))
        except ValidationError as error:
            raise Refused(f"the ledger {ref.key} can't be read: {explain(error)}") from error

    def _disjoint(self, ledgers: list[Ledger]) -> tuple[LedgerEntry, ...]:
        entries = sorted((entry for ledger in ledgers for entry in ledger.entries), key=lambda entry: entry.client)
        for one, other in pairwise(entries):
            if one.client == other.client:
                raise Refused(f"client {one.client!r} is in two ledgers of one round: no model is made of them")
        return tuple(entries)

    def _merge(self, effect: Aggregate, spec: Spec) -> Rule:
        total = open_rule(effect.strategy.rule, spec, effect.exponents)
        for partial in effect.partials:
            if partial.sum is not None:
                with open_source(self._blobs, partial.sum, self._scratch) as source:
                    total.fold_partial(source)
        return total

    def _check(self, total: Rule, entries: tuple[LedgerEntry, ...]) -> None:
        accepted = [entry for entry in entries if entry.outcome == "accepted"]
        if (len(accepted), sum(entry.weight for entry in accepted)) != (total.count, total.total_weight):
            raise Refused("the partials and their ledgers differ in the number or the weight of accepted updates")

    def _put_model(self, effect: Aggregate, data: bytes) -> BlobRef:
        model = keys.committed_model(effect.session, effect.round, _sha256(data))
        return self._blobs.put(keys.model_blob(model), data)

    def _put_ledger(self, effect: Aggregate, entries: tuple[LedgerEntry, ...], plans: list[PlanKey]) -> BlobRef:
        ledger = Ledger(
            session=effect.session,
            round=effect.round,
            attempt=effect.attempt,
            parent=effect.model,
            exponents=effect.exponents,
            total_weight=sum(entry.weight for entry in entries if entry.outcome == "accepted"),
            entries=entries,
            plans=tuple(sorted(plans, key=str)),
            strategy=effect.strategy.model_dump(),
            optimizer=effect.optimizer,
        )
        key = keys.round_ledger_blob(effect.session, effect.round)
        ref = self._blobs.put(key, ledger.model_dump_json().encode())
        self._newest = ref, ledger
        return ref

    def record_participation(self, effect: RecordParticipation) -> None:
        """Records a round's ledger in columns."""
        newest = self._newest
        if newest is not None and newest[0] == effect.ledger:
            ledger = newest[1]
        else:
            ledger = Ledger.model_validate_json(self._blobs.get(effect.ledger.key))
        record = Participation.of(ledger)
        self._records.put(record.table, record.key, record.document(), effect.term)


def _check_weights(effect: Aggregate, entries: tuple[LedgerEntry, ...]) -> None:
    """Raises Refused for an accepted update whose weight the policy does not allow. Combiners reject such updates."""
    for entry in entries:
        reason = weight_objection(effect.weighting, effect.max_weight, entry.weight)
        if entry.outcome == "accepted" and reason is not None:
            raise Refused(f"a combiner accepted an update of client {entry.client!r}: {reason}")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _which(models: Sequence[str]) -> str:
    """Returns what to do where no session has made a model yet, and these are in bucket `models`."""
    if not models:
        return "there is no model to start from: `fedmq seed --package DIR` or `fedmq seed FILE` makes one"
    shown = f"{', '.join(models[:SHOWN])}{' …' if len(models) > SHOWN else ''}"
    return f"there are {len(models)} models to start from: name one of {shown}, as in `fedmq start --seed {models[0]}`"


def check_strategy(strategy: Strategy) -> None:
    """Raises ConfigError that names the unknown rule, server optimizer or parameter."""
    try:
        aggregation.rule_named(strategy.rule)
        aggregation.server_optimizer(strategy.name).configure(strategy.parameters)
    except ConfigError as error:
        raise ConfigError(f"strategy: {error.reason}") from error
