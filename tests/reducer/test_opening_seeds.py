"""Which model a session starts from where it names none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedmq.blobs.memory import MemoryBlobs
from fedmq.errors import NotFound
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
