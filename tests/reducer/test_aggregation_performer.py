"""The next model is made only of partials and ledgers that agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedmq.aggregation import Accumulator, Rule
from fedmq.blobs.memory import MemoryBlobs
from fedmq.errors import InvalidUpdate, Refused
from fedmq.records.sqlite import SqliteRecords
from fedmq.tensors import spec_of
from fedmq.tensors.tensorblob import Source, Weights, decode, encode
from fedmq_reducer.operations import Aggregate
from fedmq_reducer.performers.aggregation_performer import AggregationPerformer
from fedmq_schemas.messages import Partial, PlanKey
from fedmq_schemas.policy import Strategy
from fedmq_schemas.records import Ledger, LedgerEntry
from support.rules import documented_median

MODEL: Weights = {"w": np.zeros(2, np.float32)}
EXPONENTS = (-40,)
BLOBS = MemoryBlobs()
BASE = BLOBS.put("models/base", encode(MODEL))


def partial(part: int, rule: type[Rule], *clients: str, weight: int = 2) -> Partial:
    """A combiner's partial of updates that change each weight by 1. `weight`: what the ledger says."""
    key = PlanKey(session="s", round=1, part=part)
    folded = rule(spec_of(MODEL), {"w": EXPONENTS[0]})
    for _ in clients:
        folded.fold(Source(encode({"w": np.ones(2, np.float32)})), 2)
    entries = tuple(LedgerEntry(client=client, outcome="accepted", weight=weight) for client in clients)
    ledger = Ledger(
        session="s",
        round=1,
        attempt=1,
        parent=BASE,
        exponents=EXPONENTS,
        total_weight=weight * len(clients),
        entries=entries,
        plans=(key,),
    )
    return Partial(
        plan=key,
        epoch=1,
        sum=BLOBS.put(f"updates/sum-{part}", folded.dump()),
        ledger=BLOBS.put(f"updates/ledger-{part}", ledger.model_dump_json().encode()),
        total_weight=ledger.total_weight,
        counts={"accepted": len(clients)},
    )


def aggregated(scratch: Path, *partials: Partial) -> Weights:
    performer = AggregationPerformer(BLOBS, SqliteRecords(":memory:"), scratch)
    made = performer.aggregate(Aggregate("s", 1, 1, BASE, None, EXPONENTS, Strategy(), partials))
    return decode(BLOBS.get(made.model.key))[0]


def test_partials_of_several_combiners_make_one_model(tmp_path: Path) -> None:
    made = aggregated(tmp_path, partial(0, Accumulator, "c1", "c2"), partial(1, Accumulator, "c3"))
    assert made["w"].tolist() == [1.0, 1.0]


def test_a_client_in_two_ledgers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="client 'c1' is in two ledgers"):
        aggregated(tmp_path, partial(0, Accumulator, "c1", "c2"), partial(1, Accumulator, "c1"))


def test_a_partial_that_its_ledger_contradicts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="differ in the number or the weight"):
        aggregated(tmp_path, partial(0, Accumulator, "c1", weight=3))


def test_a_partial_of_another_rule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidUpdate, match="made by the rule 'median', and the plan's rule is 'mean'"):
        aggregated(tmp_path, partial(0, documented_median(), "c1"))


def test_a_ledger_with_an_update_that_weighs_more_than_the_policy_allows_is_refused(tmp_path: Path) -> None:
    """A combiner of an earlier release accepts such an update."""
    performer = AggregationPerformer(BLOBS, SqliteRecords(":memory:"), tmp_path)
    partials = (partial(0, Accumulator, "c1", "c2"),)
    for weighting, most in (("equal", 100), ("capped:1", 100), ("examples", 1)):
        wanted = Aggregate("s", 1, 1, BASE, None, EXPONENTS, Strategy(), partials, weighting, most)
        with pytest.raises(Refused, match="a combiner accepted an update of client 'c1': its weight 2 is over 1, "):
            performer.aggregate(wanted)
    performer.aggregate(Aggregate("s", 1, 1, BASE, None, EXPONENTS, Strategy(), partials, "capped:2", 1))


def test_a_ledger_that_can_not_be_read_is_refused_with_its_name(tmp_path: Path) -> None:
    whole = partial(0, Accumulator, "c1")
    text = BLOBS.get(whole.ledger.key).replace(b'"seconds":{}', b'"seconds":{"train":null}')
    broken = whole.model_copy(update={"ledger": BLOBS.put("updates/ledger-broken", text)})
    with pytest.raises(Refused, match=r"the ledger updates/ledger-broken can't be read: entries\.0\.seconds\.train"):
        aggregated(tmp_path, broken)
