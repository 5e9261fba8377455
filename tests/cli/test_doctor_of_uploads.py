"""`fedmq doctor` reports a blob store that lets a client upload other bytes than its URL was signed for."""

from __future__ import annotations

import pytest

from fedmq.blobs.memory import MemoryBlobs
from fedmq.process.settings import ReducerSettings
from fedmq_cli.doctor import store_checks
from fedmq_cli.doctor.findings import Notable


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryBlobs:
    store = MemoryBlobs()
    monkeypatch.setattr(store_checks, "open_blobs", lambda settings, **_: store)
    return store


def test_a_store_that_binds_uploads_is_fine(store: MemoryBlobs) -> None:
    assert "an upload of other bytes is refused" in store_checks.blobs(ReducerSettings())
    assert not [*store.list("")]


def test_a_store_that_ignores_signed_headers_deserves_a_warning(
    store: MemoryBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryBlobs, "binds_uploads", lambda self: False)
    with pytest.raises(Notable, match="combiners copy each update before they fold it"):
        store_checks.blobs(ReducerSettings())
