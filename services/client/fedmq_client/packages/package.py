"""A compute package: a folder with `fedn.yaml` that names the user's trainer or commands.

    trainer: trainer.py:MnistTrainer      # a class, or `trainer.py` alone for functions
    trainer: flower:client_app.py:app     # or what Flower's users write, unchanged
    entry_points:                         # or commands, in any language
      train: {command: python train.py}
      validate: {command: python validate.py}
    roles: {"0003/position_ids": constant}  # of tensors, where the trainer or the seed's file does not state them
    test_set: true                        # evaluators score a test set, and not a client's data

A package is always local to the client: nothing here downloads code.
"""

import hashlib
import os
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
KEYS = ("trainer", "entry_points", "format", "python_env", "roles", "test_set")


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
    test_set: bool = False
    """Whether `fedn.yaml` states that evaluators score a test set. A trainer may state it too."""

    def runs_commands(self, form: Form | None) -> bool:
        """Returns whether commands are used if this form is requested. None: no form is."""
        return form == "commands" or (form is None and self.trainer is None)

    @property
    def sha256(self) -> str:
        """The hash over sorted paths and contents, computed anew, without caches, hidden files and `data`."""
        digest = hashlib.sha256()
        for name, path in sorted(_files(self.folder).items()):
            content = path.read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
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
        _trainer_file(path, trainer)
    form = manifest.get("format", "npz")
    if form not in FORMATS:
        raise PackageError(f"{path}: format is {form!r}: commands can exchange {', '.join(FORMATS)}")
    python_env = manifest.get("python_env")
    if python_env is not None and not (folder / str(python_env)).is_file():
        raise PackageError(f"{path}: python_env names {python_env}, which is not in {folder}")
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
        python_env=None if python_env is None else folder / str(python_env),
        roles=roles,
        test_set=test_set,
    )


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


def _trainer_file(path: Path, trainer: Any) -> None:
    if not isinstance(trainer, str):
        raise PackageError(f"{path}: trainer must look like `trainer: trainer.py:MyTrainer`")
    file, _, name = trainer.removeprefix(FLOWER).partition(":")
    if trainer.startswith(FLOWER) and not name:
        raise PackageError(f"{path}: a Flower trainer must look like `trainer: flower:client_app.py:app`")
    target = (path.parent / file).resolve()
    if not target.is_relative_to(path.parent):
        raise PackageError(f"{path}: trainer {file} is outside of the package's folder")
    if target.suffix != ".py" or not target.is_file():
        raise PackageError(f"{path}: trainer names {file}, and there is no such .py file")


def _files(folder: Path) -> dict[str, Path]:
    """Returns the files of the package, by relative path with forward slashes."""
    files: dict[str, Path] = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("__pycache__", "data") and name[0] != "."]
        for name in names:
            if name[0] != "." and not name.endswith(".pyc"):
                path = Path(root, name)
                files[path.relative_to(folder).as_posix()] = path
    return files
