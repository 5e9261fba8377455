"""Carries out a reducer's work on blobs: opening a seed, and from partials to the next model."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmq import aggregation
from fedmq.aggregation import Accumulator
from fedmq.blobs.base import Blobs
from fedmq.errors import ConfigError, InvalidUpdate, NotFound, Refused
from fedmq.metrics import summarize
from fedmq.records.base import Records
from fedmq.tensors import Spec, TensorRole, spec_of, tensorblob
from fedmq.tensors.splitting import join, split
from fedmq.tensors.tensorblob import Source
from fedmq_reducer import operations
from fedmq_reducer.operations import SMALL, Aggregate, OpenSeed, PutBlob, RecordParticipation
from fedmq_reducer.retention import check_kept
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef, Partial, PlanKey
from fedmq_schemas.policy import Tensors
from fedmq_schemas.records import Ledger, LedgerEntry, ModelRecord, Participation, count_outcomes, is_kept

PIECE = 1 << 20
SHOWN = 5


class AggregationPerformer:
    """The performers of one reducer. Tensors in memory: the model, the sum (int64) and the mean (float64). The ledger that
    was written last stays there too, as it is told next."""

    def __init__(self, blobs: Blobs, records: Records, scratch: Path, wall: Callable[[], float] = time.time) -> None:
        self._blobs = blobs
        self._records = records
        self._scratch = scratch
        self._wall = wall
        self._newest: tuple[BlobRef, Ledger] | None = None

    def performers(self) -> dict[type[Any], Callable[[Any], Any]]:
        return {
            OpenSeed: self.open_seed,
            Aggregate: self.aggregate,
            PutBlob: lambda effect: self._blobs.put(effect.key, effect.data),
            RecordParticipation: self.record_participation,
        }

    # -- seeds ------------------------------------------------------------------------------------------------------

    def open_seed(self, effect: OpenSeed) -> operations.OpenedSeed:
        """Raises ConfigError for an unknown strategy or parameter, NotFound where there is no such model, InvalidUpdate
        where the blob is not a model."""
        check_strategy(effect.strategy.name, effect.strategy.parameters)
        seed = self._find_model(effect.seed)
        model, base = seed.ref, None
        if seed.base is not None or effect.tensors != Tensors():
            model, base = self._split(seed, effect.tensors)
        exponents = aggregation.initial_exponents(self._spec(model.key, model.size), effect.weights)
        in_order = tuple(exponents[name] for name in sorted(exponents))
        return operations.OpenedSeed(seed.model, model, in_order, base)

    def _split(self, seed: ModelRecord, tensors: Tensors) -> tuple[BlobRef, BlobRef | None]:
        """What of a seed is trained together, recorded as a model of its own, and its base. Raises ConfigError where the
        policy does not fit the model."""
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
        """A blob that somebody put into bucket `models` becomes a seed: hashed, checked, recorded."""
        key = keys.model_blob(name)
        try:
            size = self._blobs.stat(key).size
        except NotFound:
            raise NotFound(f"there is no model {name!r}: see `fedmq models`, or upload it to bucket models") from None
        digest = hashlib.sha256()
        for offset in range(0, size, PIECE):
            digest.update(self._blobs.read(key, offset, PIECE))
        try:
            self._spec(key, size)
        except InvalidUpdate as error:
            raise InvalidUpdate(f"{name!r} in bucket models is no model (safetensors): {error.reason}") from error
        ref = BlobRef(key=key, size=size, sha256=digest.hexdigest())
        record = ModelRecord(model=name, ref=ref, round=0, created_at=self._wall())
        existing = self._records.insert(record.table, record.key, record.document())
        return record if existing is None else ModelRecord.model_validate(existing)

    def _spec(self, key: str, size: int) -> Spec:
        return spec_of(*tensorblob.read_header(lambda at, length: self._blobs.read(key, at, length), size))

    # -- the commit -------------------------------------------------------------------------------------------------

    def aggregate(self, effect: Aggregate) -> operations.Aggregated:
        """Idempotent: the same request gives the same blobs. Raises Refused if a client is in two ledgers, or if the
        server optimizer's step is not finite."""
        ledgers = [Ledger.model_validate_json(self._blobs.get(p.ledger.key)) for p in effect.partials]
        entries = self._disjoint(ledgers)
        weights, meta = tensorblob.decode(self._blobs.get(effect.model.key))
        spec = spec_of(weights, meta)
        names = sorted(name for name, tensor in spec.items() if tensor.role is not TensorRole.COUNTER)
        exponents = dict(zip(names, effect.exponents, strict=True))
        total = self._merge(spec, exponents, effect.partials)
        self._check(total, entries)
        optimizer = aggregation.server_optimizer(effect.strategy.name)
        parameters = optimizer.configure(effect.strategy.parameters)
        state = tensorblob.decode(self._blobs.get(effect.optimizer.key))[0] if effect.optimizer else None
        new, after = aggregation.next_model(weights, spec, total.mean(), optimizer, parameters, state)
        model = self._put_model(effect, tensorblob.encode(new, meta))
        kept = tensorblob.encode(after) if after else None
        stored = None
        if kept is not None:
            stored = self._blobs.put(keys.optimizer_blob(effect.session, effect.round, _sha256(kept)), kept)
        ledger = self._put_ledger(effect, entries, [key for led in ledgers for key in led.plans])
        following = aggregation.exponents(total.second_largest(), exponents)
        return operations.Aggregated(
            model=model,
            optimizer=stored,
            ledger=ledger,
            total_weight=total.total_weight,
            counts=count_outcomes(entries),
            metrics=summarize((entry.weight, entry.metrics) for entry in entries if entry.outcome == "accepted"),
            exponents=tuple(following[name] for name in names),
            bytes={
                "down": effect.model.size * len(entries),
                "up": sum(entry.blob.size for entry in entries if entry.blob is not None),
            },
        )

    def _disjoint(self, ledgers: list[Ledger]) -> tuple[LedgerEntry, ...]:
        entries = sorted((entry for ledger in ledgers for entry in ledger.entries), key=lambda entry: entry.client)
        for one, other in zip(entries, entries[1:], strict=False):
            if one.client == other.client:
                raise Refused(f"client {one.client!r} is in two ledgers of one round: no model is made of them")
        return tuple(entries)

    def _merge(self, spec: Spec, exponents: Mapping[str, int], partials: tuple[Partial, ...]) -> Accumulator:
        total = Accumulator(spec, exponents)
        for partial in partials:
            if partial.sum is not None:
                with self._source(partial.sum) as source:
                    total.merge(source)
        return total

    def _check(self, total: Accumulator, entries: tuple[LedgerEntry, ...]) -> None:
        accepted = [entry for entry in entries if entry.outcome == "accepted"]
        if (len(accepted), sum(entry.weight for entry in accepted)) != (total.count, total.total_weight):
            raise Refused("the partials' sums and their ledgers tell different counts or weights")

    def _source(self, ref: BlobRef) -> Source:
        if ref.size <= SMALL:
            return Source(self._blobs.get(ref.key))
        self._scratch.mkdir(parents=True, exist_ok=True)
        into = self._scratch / f"partial-{threading.get_ident()}"
        path = self._blobs.fetch(ref, into)
        source = Source(path)
        if path == into:
            into.unlink()
        return source

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
        newest = self._newest
        if newest is not None and newest[0] == effect.ledger:
            ledger = newest[1]
        else:
            ledger = Ledger.model_validate_json(self._blobs.get(effect.ledger.key))
        record = Participation.of(ledger)
        self._records.put(record.table, record.key, record.document(), effect.term)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _which(models: Sequence[str]) -> str:
    """What to do where no session has made a model yet, and these are in bucket `models`."""
    if not models:
        return "there is no model to start from: `fedmq seed --package DIR` or `fedmq seed FILE` makes one"
    shown = f"{', '.join(models[:SHOWN])}{' …' if len(models) > SHOWN else ''}"
    return f"there are {len(models)} models to start from: name one of {shown}, as in `fedmq start --seed {models[0]}`"


def check_strategy(name: str, parameters: Mapping[str, float]) -> None:
    """Raises ConfigError that names the unknown strategy or parameter."""
    try:
        aggregation.server_optimizer(name).configure(parameters)
    except ConfigError as error:
        raise ConfigError(f"strategy: {error.reason}") from error
