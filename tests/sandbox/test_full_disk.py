"""A sandbox whose disk is full names the cause while it waits, and continues once there is room."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from fedmq.blobs.files import FileBlobs
from fedmq.errors import Transient
from fedmq.process import stall_watch
from fedmq.runtime import stalls
from fedmq_sandbox import Sandbox
from sandbox.commands import REGRESSION
from support.waiting import SECONDS


def test_a_full_disk_is_logged_as_a_stall_until_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(stall_watch.log, "warning", lambda text, *words: lines.append(text % words))
    monkeypatch.setattr(stalls, "STALLED_AFTER", 0.0)
    monkeypatch.setattr(stall_watch, "PERIOD", 0.05)
    put, ends = FileBlobs.put, time.monotonic() + SECONDS

    def is_known() -> bool:
        return any("stalled: a disk is full, since" in message for message in lines)

    def put_once_known(blobs: FileBlobs, key: str, *arguments: Any) -> Any:
        if "/partial-" in key and not is_known() and time.monotonic() < ends:
            raise Transient("a disk is full", store="blob_store")
        return put(blobs, key, *arguments)

    monkeypatch.setattr(FileBlobs, "put", put_once_known)
    with Sandbox(REGRESSION, clients=2, rounds=2, workers=0, random_seed=1, state_dir=tmp_path) as sandbox:
        assert sandbox.run()["state"] == "finished"
    assert is_known(), f"no line named the full disk within {SECONDS:g} s, but: {lines}"
    assert any(message.startswith("no longer stalled after") for message in lines)
