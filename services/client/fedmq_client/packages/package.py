"""A compute package: a folder with `fedn.yaml` that names the user's trainer or commands.

    trainer: trainer.py:MnistTrainer      # a class, or `trainer.py` alone for functions; also trainer:MnistTrainer
    trainer: flower:client_app.py:app     # or a client of Flower (flwr >= 1.24)
    entry_points:                         # or commands, in any language
      train: {command: python train.py}
      validate: {command: python validate.py}
    seed: weights.npz                     # a first model for `check` and `sandbox`, in any format that `fedmq seed` reads
    roles: {"0003/position_ids": constant}  # of tensors, where the trainer or the seed's file does not state them
    test_set: true                        # evaluators score a test set, and not a client's data

A package is always local to the client: nothing here downloads code.

While a trainer's file is run and in each call of it, the package's folder is the current one and the first on
`sys.path`, for child processes too: `trainer.py` is the module `trainer`. A trainer may change what it likes of its
process, such as environment variables, signal handlers, logging or numpy's and torch's settings. What its file and its
constructor change holds in each of its calls. What a call changes ends with that task.

A client computes the package's hash once, when it starts. Files that a trainer writes into the folder count at the next
start: write to `client.state_dir`. The hash leaves out `data`, hidden files, and the folders `lightning_logs`, `mlruns`,
`outputs`, `runs` and `wandb`, which tools write beside a trainer.
"""

import contextlib
import hashlib
import logging
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from fedmq.errors import ConfigError
from fedmq_client.trainer import Form

MANIFEST = "fedn.yaml"
FLOWER = "flower:"
ENTRY_POINTS = ("build", "startup", "train", "validate", "predict")
FORMATS = ("npz", "safetensors", "h5")
LOGS = ("lightning_logs", "mlruns", "outputs", "runs", "wandb")
"""Folders that tools write beside a trainer: Lightning, MLflow, Hydra, TensorBoard, Weights & Biases. They are no code."""
LARGE = 300_000_000
PIECE = 1 << 20
KEYS = ("trainer", "entry_points", "format", "python_env", "roles", "test_set", "seed")

log = logging.getLogger("fedmq.client")


class PackageError(ConfigError):
    """A package that can't be used. The text says what is wrong in which file, and what to write instead."""


@dataclass(frozen=True, slots=True)
class Package:
    """A checked `fedn.yaml`. The trainer's code has not been run yet."""

    folder: Path
    trainer: str | None = None
    """`FILE.py:CLASS`, `FILE.py` for module-level functions, or `flower:FILE.py:NAME`."""
    entry_points: Mapping[str, str] = field(default_factory=dict)
    """Commands by entry point: build, startup, train, validate, predict."""
    format: str = "npz"
    """How commands read and write weights: one of `FORMATS`."""
    python_env: Path | None = None
    """A `python_env.yaml` that describes the environment of the commands."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Roles of tensors of the first model, by name. They override those of the trainer."""
    seed: Path | None = None
    """A model file in the folder, from which sessions of the sandbox start. None: the trainer makes the first model."""
    test_set: bool = False
    """Whether `fedn.yaml` states that evaluators score a test set. A trainer may state it too."""

    @property
    def file(self) -> str:
        """The trainer's file, relative to the folder; that of the commands, `fedn.yaml`, without a trainer."""
        return (self.trainer or MANIFEST).removeprefix(FLOWER).partition(":")[0]

    def runs_commands(self, form: Form | None) -> bool:
        """Returns whether commands are used if this form is requested. None: no form is."""
        return form == "commands" or (form is None and self.trainer is None)

    @property
    def sha256(self) -> str:
        """The hash over sorted paths and contents, computed anew. See `_files` for what is left out.

        Raises PackageError for a file that can't be read. Warns if there is more than LARGE to read.
        """
        digest = hashlib.sha256()
        files = _files(self.folder)
        total = sum(size for _, size in files.values())
        if total > LARGE:
            log.warning(
                "the package %s holds %d MB in %d files, which are read for its hash at each start: "
                "keep what is no code in its folder `data`, or outside",
                *(self.folder, total // 1_000_000, len(files)),
            )
        for name, (path, size) in sorted(files.items()):
            digest.update(f"{name}\0{size}\0".encode())
            try:
                with path.open("rb") as file:
                    while piece := file.read(PIECE):
                        digest.update(piece)
            except OSError as error:
                raise PackageError(f"{path} can't be read for the package's hash: {error.strerror}") from error
        return digest.hexdigest()


def load(folder: Path | str) -> Package:
    """Reads and checks `FOLDER/fedn.yaml`. Raises PackageError. Runs none of the user's code."""
    folder = Path(folder).expanduser().resolve()
    path = folder / MANIFEST
    if not folder.is_dir():
        raise PackageError(f"there is no folder {folder}: give the folder that holds {MANIFEST}")
    if not path.is_file():
        within = folder / "client"
        if (within / MANIFEST).is_file():
            raise PackageError(f"{folder} has no {MANIFEST}, but {within} has one: name that folder")
        raise PackageError(f"{folder} has no {MANIFEST}: write one with the line `trainer: trainer.py:MyTrainer`")
    try:
        manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PackageError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(manifest, dict):
        raise PackageError(f"{path} must hold keys such as `trainer: trainer.py:MyTrainer`")
    unknown = sorted(str(key) for key in manifest if key not in KEYS)
    if unknown:
        raise PackageError(f"{path} has unknown keys {unknown}: {_hint(unknown[0], KEYS)}")
    trainer = manifest.get("trainer")
    entry_points = _entry_points(path, manifest.get("entry_points"))
    if trainer is None and "train" not in entry_points and "validate" not in entry_points:
        raise PackageError(
            f"{path} names neither a trainer nor a train command: add the line `trainer: trainer.py:MyTrainer`"
        )
    if trainer is not None:
        trainer = _trainer_file(path, trainer)
    form = manifest.get("format", "npz")
    if form not in FORMATS:
        raise PackageError(f"{path}: format is {form!r}: commands can exchange {', '.join(FORMATS)}")
    roles = manifest.get("roles") or {}
    if not isinstance(roles, dict) or not all(isinstance(text, str) for pair in roles.items() for text in pair):
        raise PackageError(f"{path}: roles must look like `roles: {{'0003/position_ids': constant}}`")
    test_set = manifest.get("test_set", False)
    if not isinstance(test_set, bool):
        raise PackageError(
            f"{path}: test_set is {test_set!r}: write true if evaluators score a test set, or leave it out"
        )
    return Package(
        folder=folder,
        trainer=trainer,
        entry_points=entry_points,
        format=form,
        python_env=_file_within(path, "python_env", manifest.get("python_env")),
        roles=roles,
        test_set=test_set,
        seed=_file_within(path, "seed", manifest.get("seed")),
    )


def _file_within(manifest: Path, key: str, name: Any) -> Path | None:
    if name is not None and not (manifest.parent / str(name)).is_file():
        raise PackageError(f"{manifest}: {key} names {name}, which is not in {manifest.parent}")
    return None if name is None else manifest.parent / str(name)


def _hint(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"{f'did you mean {near[0]!r}? ' if near else ''}known are {', '.join(known)}"


def _entry_points(path: Path, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    example = "`entry_points: {train: {command: python train.py}}`"
    if not isinstance(value, dict):
        raise PackageError(f"{path}: entry_points must look like {example}")
    commands: dict[str, str] = {}
    for name, entry in value.items():
        if name not in ENTRY_POINTS:
            raise PackageError(f"{path}: unknown entry point {name!r}: {_hint(str(name), ENTRY_POINTS)}")
        command = entry.get("command") if isinstance(entry, dict) else entry
        if not isinstance(command, str) or not command.strip():
            raise PackageError(f"{path}: entry point {name} has no command: write {example}")
        commands[name] = command
    return commands


def _trainer_file(path: Path, trainer: Any) -> str:
    """Returns the trainer as `FILE.py:NAME`; it may be written as `package.module:NAME`."""
    if not isinstance(trainer, str):
        raise PackageError(f"{path}: trainer must look like `trainer: trainer.py:MyTrainer`")
    form = FLOWER if trainer.startswith(FLOWER) else ""
    file, colon, name = trainer.removeprefix(FLOWER).partition(":")
    if form and not name:
        raise PackageError(f"{path}: a Flower trainer must look like `trainer: flower:client_app.py:app`")
    if not file.endswith(".py") and (path.parent / f"{file.replace('.', '/')}.py").is_file():
        file = f"{file.replace('.', '/')}.py"
    target = (path.parent / file).resolve()
    if not target.is_relative_to(path.parent):
        raise PackageError(f"{path}: trainer {file} is outside of the package's folder")
    if target.suffix != ".py" or not target.is_file():
        raise PackageError(f"{path}: trainer names {file}, and there is no such .py file")
    return f"{form}{file}{colon}{name}"


def _files(folder: Path) -> dict[str, tuple[Path, int]]:
    """Returns the files of the package with their sizes, by relative path with forward slashes.

    Left out are caches, hidden files, the folder `data`, the folders of LOGS at the top, and what is no file: a link to
    nothing, a pipe, a socket, a device.
    """
    files: dict[str, tuple[Path, int]] = {}
    for root, folders, names in os.walk(folder):
        skipped = ("__pycache__", "data", *(LOGS if root == str(folder) else ()))
        folders[:] = [name for name in folders if name not in skipped and name[0] != "."]
        for name in names:
            if name[0] != "." and not name.endswith(".pyc"):
                path = Path(root, name)
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    if stat.S_ISREG(status.st_mode):
                        files[path.relative_to(folder).as_posix()] = path, status.st_size
    return files
