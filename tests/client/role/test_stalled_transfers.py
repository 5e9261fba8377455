"""A transfer that a client repeats for five seconds is a stall, until the transfer ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.role.core_driver import SENT, plan, task
from fedmq.blobs import transfer
from fedmq.errors import Refused, Transient
from fedmq.runtime.stalls import Stalls
from fedmq.scheduler import VirtualScheduler
from fedmq_client.pool.inline import InlinePool
from fedmq_client.role.model_cache import Models
from fedmq_client.role.operations import RunTask, TaskResult, Upload, task_key
from fedmq_client.role.runner import TaskRunner
from fedmq_client.role.store import MemoryStore
from fedmq_client.trainer import Client
from fedmq_schemas.messages import BlobRef

FAULT = "a transfer with the blob store is repeated: 503 SlowDown"


class Site:
    """A client whose transfers fail for six seconds. `seen`: its stalls after that."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scheduler = VirtualScheduler()
        self.stalls = Stalls(self.scheduler.wall)
        self.seen: list[tuple[str, str]] = []
        self.outcome: BlobRef | Transient = SENT
        pool, store = InlinePool(), MemoryStore()
        self.runner = TaskRunner(
            Client("c1", state_dir=folder),
            folder,
            pool,
            store,
            self.scheduler,
            Models(None),
            package_sha256="",
            report=lambda event: None,
            stalls=self.stalls,
        )
        monkeypatch.setattr(transfer, "put", self._transfer)
        monkeypatch.setattr(transfer, "get", self._transfer)

    def _transfer(self, *_: object, on_fault: Callable[[str], None], **__: Any) -> BlobRef:
        for at in (0.0, 6.0):
            self.scheduler.later(at, lambda: on_fault("503 SlowDown"))
        self.scheduler.run()
        self.seen += [(stall.effect, stall.reason) for stall in self.stalls.current()]
        if isinstance(self.outcome, Transient):
            raise self.outcome
        return self.outcome


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def test_an_upload_that_is_repeated_is_a_stall_until_it_succeeds(site: Site) -> None:
    upload = Upload(task(plan(1)), TaskResult(task_key(plan(1)), "done", update=b"update"), 0.0)
    assert site.runner.upload(upload) == SENT
    assert site.seen == [("Upload", FAULT)]
    assert site.stalls.current() == []
    assert site.stalls.retries == {("Upload", "blob_store"): 2}


def test_an_upload_that_is_given_up_is_no_stall_any_more(site: Site) -> None:
    site.outcome = Transient("given up after 60 s: 503 SlowDown")
    with pytest.raises(Refused, match="did not succeed in time"):
        site.runner.upload(Upload(task(plan(1)), TaskResult(task_key(plan(1)), "done", update=b"update"), 0.0))
    assert len(site.seen) == 1
    assert site.stalls.current() == []


def test_a_download_that_is_repeated_is_a_stall_until_it_is_given_up(site: Site) -> None:
    site.outcome = Transient("given up after 60 s: 503 SlowDown")
    site.runner.run(RunTask(task(plan(1)), 60.0))
    assert site.seen == [("RunTask", FAULT)]
    assert site.stalls.current() == []
