"""The trainers that a process has built, and the models that it has read, for its next jobs."""

import mmap
import os
from pathlib import Path
from typing import Any

from fedmq import tensors
from fedmq.tensors import Weights
from fedmq.tensors.flat import FlatModel, flat
from fedmq.value import value
from fedmq_client.job import imports, process_state
from fedmq_client.job.job import Blob
from fedmq_client.job.load_trainer import build, forget
from fedmq_client.packages import package as packages
from fedmq_client.trainer import Client, Trainer

Meta = dict[str, Any]

_in_use: list[tuple[Path, str]] = []
"""Folder and hash of each package that an open pool of this process runs. Its classes are replaced only if it changed."""


@value
class _Warm:
    """A trainer, and what of the process is as its package and its constructor made it."""

    client: Client
    trainer: Trainer
    changes: process_state.State


class Trainers:
    """The warm trainers of one process, and its last model. A failed or cancelled trainer is dropped as incomplete.

    - `own`: the state of the process between jobs, which a process that does nothing else reads once. None: any.
    - `has_quit`: whether the user left a debugger in a trainer, or a trainer found no terminal for one.
    - `spoilt`: what trainers changed of this process and can't be restored, such as a closed standard output.
    """

    def __init__(self, own: process_state.State | None = None) -> None:
        self.own = own
        self.has_quit = False
        self.spoilt: list[str] = []
        self._trainers: dict[tuple[Path, str], _Warm] = {}
        self._packages: dict[Path, packages.Package] = {}
        self._versions: list[tuple[Path, str]] = []
        self._models: dict[str, tuple[object, tuple[Weights, Meta]]] = {}
        self._flat: tuple[Weights, FlatModel | None] = ({}, None)

    def get(self, folder: Path, client: Client) -> Trainer:
        """Returns the trainer of `client`, built anew if anything about the client changed.

        The process is then as that trainer's code expects it, until the caller restores it.
        """
        known = self._trainers.get((folder, client.name))
        if known is not None and known.client == client:
            if known.changes:
                imports.bring_modules(self.package(folder).folder)
                process_state.write(known.changes)
            return known.trainer
        own = process_state.read()
        trainer = build(self.package(folder), client)
        self._trainers[folder, client.name] = _Warm(
            client, trainer, process_state.differences(own, process_state.read())
        )
        return trainer

    def package(self, folder: Path) -> packages.Package:
        """Returns the package, which is read once, as its modules are."""
        if folder not in self._packages:
            package = self._packages[folder] = packages.load(folder)
            if self.own is None:  # earlier pools of this process may have run the files
                version = (package.folder, package.sha256)
                if version not in _in_use:
                    forget(package.folder)
                _in_use.append(version)
                self._versions.append(version)
        return self._packages[folder]

    def close(self) -> None:
        """Lets the next pool of this process that runs these packages read their files anew."""
        while self._versions:
            _in_use.remove(self._versions.pop())

    def drop(self, folder: Path, client: Client) -> None:
        """Makes `get` build the client's trainer anew."""
        self._trainers.pop((folder, client.name), None)

    def model(self, blob: Blob, part: str = "model") -> tuple[Weights, Meta]:
        """Returns read-only weights and metadata. The last model and base are kept, because a round's clients share them."""
        key: object = blob
        known, decoded = self._models.get(part, (None, ({}, {})))
        if isinstance(blob, Path):
            status = blob.stat()
            key = (blob, status.st_ino, status.st_size, status.st_mtime_ns)
        elif blob is known:
            return decoded
        if isinstance(blob, bytes) or key != known:
            decoded = tensors.decode(read_blob(blob))
            self._models[part] = (key, decoded)
        return decoded

    def flat(self, weights: Weights, meta: Meta) -> FlatModel | None:
        """Returns the model that `model` returned last as one array, or None if it can't be one."""
        if self._flat[0] is not weights:
            self._flat = weights, flat(weights, meta)
        return self._flat[1]


def read_blob(blob: Blob) -> bytes | memoryview:
    """Returns the bytes. A file is mapped, not read: workers on one machine share its pages. Blobs never change."""
    if isinstance(blob, bytes):
        return blob
    with open(blob, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
