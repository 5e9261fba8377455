"""What tests of kept states need: tasks, states, and stores that are opened anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedmq import tensors
from fedmq_client.job.partial_model import KEPT
from fedmq_client.personal.folder import PersonalFolder, fetched_into
from fedmq_client.personal.kept_state import origin_of
from fedmq_client.role.folder_store import FolderStore
from fedmq_client.role.operations import TaskResult, task_key
from fedmq_client.role.store import Store
from fedmq_schemas.messages import BlobRef, PersonalStart, PlanKey, TaskMessage, TaskName

PACKAGE, OTHER_PACKAGE = "a" * 64, "b" * 64
DAY = 86_400.0
NOW = 1000 * DAY
Open = Callable[[], Store]


def ref(name: str, data: bytes = b"model") -> BlobRef:
    return BlobRef(key=f"models/{name}", size=len(data), sha256=name.ljust(64, "0"))


def task(session: str, number: int, action: TaskName = "train", base: BlobRef | None = None) -> TaskMessage:
    return TaskMessage(
        plan=PlanKey(session=session, round=number, action=action),
        client="c1",
        combiner="k1",
        model=ref(f"{number - (action == 'train'):02x}"),
        base=base,
        timeout=9.0,
        rounds=9,
        seed=1,
        personal="continue",
    )


def state_after(of: TaskMessage, package: str = PACKAGE) -> bytes:
    own = {"seen": np.array([of.plan.round]), f"{KEPT}head": np.array([1, 2], np.float32)}
    return tensors.encode(own, origin_of(of, package))


def base_with(head: Any) -> bytes:
    return tensors.encode({"head": head, "rest": np.zeros(4)}, {"local": ["head"]})


BASE = base_with(np.zeros(2, np.float32))


def train(store: Store, session: str, number: int, state: bytes | None = None, at: float = NOW) -> None:
    """As the client's runner and a worker do."""
    of = task(session, number)
    key = task_key(of.plan)
    store.enter(of)
    path = store.begin(key)
    blob = state_after(of) if state is None else state
    if path is None:
        store.keep(TaskResult(key, "done", 1, update=b"update"), blob)
        return
    path.write_bytes(b"update")
    kept = path.with_name(path.name + ".state")
    kept.write_bytes(blob)
    os.utime(kept, (at, at))
    store.keep(TaskResult(key, "done", 1, update=path), kept)


def seen(store: Store, of: TaskMessage) -> int | None:
    """Returns the round after which the task's state was left."""
    blob = store.state(task_key(of.plan))
    if blob is None:
        return None
    return int(tensors.decode(blob if isinstance(blob, bytes) else blob.read_bytes())[0]["seen"][0])


def folder_of(root: Path, days: float = 30, sessions: int = 3, now: float = NOW + 1) -> PersonalFolder:
    return PersonalFolder(root / "personal", fetched_into(root / "models"), days, sessions, lambda: now)


def opened_at(root: Path, **bounds: Any) -> FolderStore:
    return FolderStore(root / "finished", folder_of(root, **bounds))


def start(store: Store, session: str, base: bytes | None = BASE, package: str = PACKAGE) -> PersonalStart:
    of = task(session, 1)
    store.enter(of)
    return store.start(of, package, base)
