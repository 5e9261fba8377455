"""Which model a session starts from where it names none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedmq.blobs.memory import MemoryBlobs
from fedmq.errors import ConfigError, InvalidUpdate, NotFound
from fedmq.records.sqlite import SqliteRecords
from fedmq.tensors import tensorblob
from fedmq_reducer.operations import OpenSeed
from fedmq_reducer.performers.aggregation_performer import AggregationPerformer
from fedmq_schemas.policy import Strategy

OPEN = OpenSeed("s", None, Strategy(), (1,))


def _opened(tmp_path: Path, *models: str) -> str:
    blobs = MemoryBlobs()
    for model in models:
        blobs.put(f"models/{model}", tensorblob.encode({"w": np.ones(2)}))
    return AggregationPerformer(blobs, SqliteRecords(":memory:"), tmp_path).open_seed(OPEN).seed


def test_the_only_seed_is_taken(tmp_path: Path) -> None:
    assert _opened(tmp_path, "mine") == "mine"


def test_of_several_seeds_one_has_to_be_named_and_the_error_lists_them(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"2 models to start from: name one of mine, yours, as in .*--seed mine"):
        _opened(tmp_path, "mine", "yours")
    with pytest.raises(NotFound, match="7 models to start from: name one of m0, m1, m2, m3, m4 …, as in"):
        _opened(tmp_path, *(f"m{number}" for number in range(7)))


def test_without_any_model_the_error_lists_the_ways_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"`fedmq seed --package DIR` or `fedmq seed FILE` makes one"):
        _opened(tmp_path)


def test_a_seed_that_was_put_into_the_store_needs_roles_for_its_integers(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    blobs.put("models/mine", tensorblob.encode({"ids": np.arange(9)}))
    with pytest.raises(InvalidUpdate, match=r"'ids' holds integers, int64 \[9\], and has no role"):
        AggregationPerformer(blobs, SqliteRecords(":memory:"), tmp_path).open_seed(OPEN)


def test_a_seed_with_an_opaque_tensor_is_opened_for_one_client_in_each_round_only(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    blobs.put("models/mine", tensorblob.encode({"tree": np.zeros(9, "u1")}, {"roles": {"tree": "opaque"}}))
    performer = AggregationPerformer(blobs, SqliteRecords(":memory:"), tmp_path)
    with pytest.raises(ConfigError, match="'tree' is opaque, and bytes of several clients can't be averaged"):
        performer.open_seed(OPEN)
    assert performer.open_seed(replace(OPEN, clients_requested=1)).seed == "mine"
