"""An upload that its client may overwrite is copied under its hash, and folded from there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from combiner.test_fold_performer import (
    BLOBS,
    MODEL,
    PLAN,
    delta,
    fold,
    partial_of,
    performer,
    plan_of,
    refused,
    stored,
)
from fedmq.blobs.memory import MemoryBlobs
from fedmq.tensors.model import spec_of
from fedmq.tensors.tensorblob import encode
from fedmq_combiner.fold_performer import largest_update
from fedmq_combiner.operations import Fold, Folded, Open
from fedmq_schemas import keys


def overwritable(data: bytes) -> Fold:
    """An update as a client without tickets uploads it."""
    return fold(BLOBS.put(keys.upload_blob("s", 1, "c1", "7"), data))


def test_an_upload_that_its_client_may_overwrite_is_folded_from_a_copy_under_its_hash() -> None:
    """The ledger named the upload, so that its client could make `fedmq model verify` of the model fail for ever."""
    data = delta(w=0.75)
    effect, made = overwritable(data), performer()
    folded = made.fold(effect)
    assert isinstance(folded, Folded)
    assert folded.blob == effect.blob.model_copy(update={"key": keys.update_blob("s", 1, "c1", effect.blob.sha256)})
    BLOBS.put(effect.blob.key, b"another content")
    assert BLOBS.load(folded.blob) == data
    without = performer()
    without.fold(fold(stored(data)))
    assert partial_of(made) == partial_of(without) is not None


def test_an_upload_with_other_bytes_than_announced_is_not_copied() -> None:
    """The copy of an earlier one of this hash stays as it is."""
    data = delta(w=0.875)
    announced = overwritable(data)
    BLOBS.put(announced.blob.key, data[::-1])
    assert "announced was" in refused(performer(), announced)
    assert announced.blob.sha256 not in "".join(info.key for info in BLOBS.list("updates/s/000001/c1/"))


def test_a_large_upload_is_copied_over_a_file(tmp_path: Path) -> None:
    model = BLOBS.put("models/large", encode({"w": np.zeros(400_000, np.float32)}))
    plan = plan_of(5, model=model, exponents=(-40,))
    data = encode({"w": np.ones(400_000, np.float32)})
    ref = BLOBS.put(keys.upload_blob("s", 5, "c1", "7"), data)
    folded = performer(plan, scratch=tmp_path).fold(fold(ref, plan=plan))
    assert isinstance(folded, Folded) and BLOBS.load(folded.blob) == data
    assert list(tmp_path.iterdir()) == []


def test_an_opened_plan_says_how_large_an_update_may_be_and_whether_the_store_binds_uploads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    header = 65_536 + sum(400 + 12 * len(name) for name in MODEL)
    for binds in (True, False):
        monkeypatch.setattr(MemoryBlobs, "binds_uploads", lambda _, binds=binds: binds)
        opened = performer().open(Open(PLAN, 1))
        assert (opened.most_bytes, opened.binds_uploads) == (2 * 8 + 8 + 3 * 4 + header, binds)


def test_the_header_of_an_update_of_many_tensors_with_odd_names_is_within_the_limit() -> None:
    weights = {f'block/\N{SNOWMAN}"{number}\\': np.zeros((1,) * 8, np.float32) for number in range(2000)}
    roles = {"roles": dict.fromkeys(weights, "statistic")}
    update, most = encode(weights, roles), largest_update(spec_of(weights, roles))
    assert len(update) < most - 65_536 and most < 5 * len(update)
