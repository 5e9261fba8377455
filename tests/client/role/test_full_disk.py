"""A client whose folder can't be written answers its tasks."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from client.role.alone import AloneClient
from fedmq_client.job.job import Blob
from fedmq_client.role.operations import TaskResult
from fedmq_client.role.store import MemoryStore
from fedmq_schemas.messages import Decline, TaskMessage, Update
from support.packages import write_package

TRAINER = """
class Trainer:
    def __init__(self, client): ...
    def train(self, weights, task): return weights, 4, {}
"""


def no_space() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


class KeepsNothing(MemoryStore):
    def keep(self, finished: TaskResult, state: Blob | None) -> None:
        raise no_space()


class EntersNothing(MemoryStore):
    def enter(self, task: TaskMessage) -> None:
        raise no_space()


def answered(folder: Path, store: MemoryStore) -> AloneClient:
    with patch.dict(sys.modules):
        client = AloneClient(write_package(folder, TRAINER), store=store)
        client.attach()
        client.request()
    return client


def test_an_update_that_can_not_be_kept_for_a_restart_is_uploaded_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [update] = answered(tmp_path, KeepsNothing()).bodies(Update, Decline)
    assert isinstance(update, Update)
    [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert (warning.getMessage(), vars(warning)["reason"]) == (
        "a finished update can't be kept for a restart",
        "[Errno 28] No space left on device",
    )


def test_a_task_that_can_not_begin_is_declined_with_the_cause(tmp_path: Path) -> None:
    [decline] = answered(tmp_path, EntersNothing()).bodies(Update, Decline)
    assert isinstance(decline, Decline)
    assert decline.reason == "can't write to the client's folder: No space left on device"
