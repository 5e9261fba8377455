"""Fetches the models of a client's tasks, and keeps the last ones by hash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedmq.blobs import transfer
from fedmq_client.job.job import Blob
from fedmq_schemas.messages import BlobRef, TaskMessage


class Models:
    """The last task's model and base: files in `folder`, or with None in memory, where clients may share them."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._held: dict[str, bytes] = {}

    def fetch(self, task: TaskMessage, timeout: float, on_fault: Callable[[str], object]) -> tuple[Blob, Blob | None]:
        """Returns the task's model and base, fetched unless they are kept. Repeats and raises as `transfer.get` does.

        `timeout`: seconds for each of the two; below one second it is one.
        """
        if task.base is None and self._held.keys() == {task.model.sha256}:
            return self._held[task.model.sha256], None
        wanted = {ref.sha256 for ref in (task.model, task.base) if ref is not None}
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            for old in self._folder.glob("*.safetensors"):
                if old.stem not in wanted:
                    old.unlink(missing_ok=True)
        elif self._held.keys() != wanted:
            self._held = {sha256: blob for sha256, blob in self._held.items() if sha256 in wanted}
        timeout = max(1.0, timeout)
        model = self._get(task.model, task.model_url, timeout, on_fault)
        return model, None if task.base is None else self._get(task.base, task.base_url, timeout, on_fault)

    def _get(self, ref: BlobRef, url: str, timeout: float, on_fault: Callable[[str], object]) -> Blob:
        if self._folder is None:
            if ref.sha256 not in self._held:
                self._held[ref.sha256] = transfer.get(ref, url, timeout=timeout, on_fault=on_fault)
            return self._held[ref.sha256]
        path = self._folder / f"{ref.sha256}.safetensors"
        if path.exists() and path.stat().st_size == ref.size:
            return path
        return transfer.fetch(ref, url, path, timeout=timeout, on_fault=on_fault)
