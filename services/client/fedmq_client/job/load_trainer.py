"""Builds the trainer of a package: runs the user's file, or wraps the commands."""

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from fedmq.errors import ConfigError
from fedmq.model_files import formats
from fedmq.model_files.formats import ModelFile
from fedmq_client.frameworks.flower import flower_trainer
from fedmq_client.job import imports, process_state
from fedmq_client.job.signatures import check_signatures
from fedmq_client.packages import environments
from fedmq_client.packages.commands import CommandTrainer
from fedmq_client.packages.package import FLOWER, MANIFEST, Package, PackageError
from fedmq_client.trainer import Client, Trainer

NAMES = ("train", "validate", "init", "roles", "meta", "test_set")


def build(package: Package, client: Client) -> Trainer:
    """Runs the trainer's file and returns the trainer of `client`, or one that runs the commands.

    A package with both uses its trainer, unless `client.form` is commands. The file is run once a process, however many
    clients it serves. Afterwards the process is as the trainer needs it: its package's folder is current and first on
    `sys.path`, and what the file changed of the process, such as a random generator's or numpy's settings, holds.
    Raises PackageError if the class or its `train` is missing, a method has a wrong signature, or what the package needs is
    not installed. Exceptions of the user's code pass.
    """
    if package.runs_commands(client.form):
        return CommandTrainer(package, client)
    if package.trainer is None:
        raise PackageError(f"{package.folder / MANIFEST} names no trainer, only commands")
    if package.python_env is not None and client.python_env:
        environments.check_installed(package.python_env)
    file, _, name = package.trainer.removeprefix(FLOWER).partition(":")
    module = _module(package.folder, package.folder / file)
    try:
        return _trainer(package, client, file, name, module)
    finally:
        os.chdir(package.folder)


def _trainer(package: Package, client: Client, file: str, name: str, module: ModuleType) -> Trainer:
    assert package.trainer is not None
    found = vars(module)
    if package.trainer.startswith(FLOWER):
        return flower_trainer(package.folder, found.get(name), f"{name} of {file}", client)
    if not name:
        if not callable(found.get("train")):
            raise PackageError(
                f"{file} has no function train(weights, task): write it, or name a class "
                f"in {MANIFEST} with `trainer: {file}:CLASS`"
            )
        functions = _Functions({key: found[key] for key in NAMES if found.get(key) is not None})
        check_signatures(package.folder, functions)
        return functions
    cls = found.get(name)
    if not inspect.isclass(cls):
        classes = [key for key, value in found.items() if inspect.isclass(value) and hasattr(value, "train")]
        hint = f"it has {', '.join(classes)}" if classes else "it has no class with a train method"
        raise PackageError(f"{file} has no class {name}, which {MANIFEST} names: {hint}")
    if not callable(getattr(cls, "train", None)):
        raise PackageError(f"class {name} in {file} has no method train(self, weights, task)")
    trainer: Trainer = cast(Callable[[Client], Trainer], cls)(client)
    check_signatures(package.folder, trainer)
    return trainer


def keras_model(package: Package) -> Any:
    """Returns the untrained Keras model of a package's trainer. Raises ConfigError if it has none."""
    own = process_state.read()
    try:
        trainer: Any = build(package, Client("export"))
        if not callable(getattr(trainer, "model", None)):
            raise ConfigError(f"the trainer of {package.folder} has no model(): another format needs none")
        model = trainer.model()
    finally:
        process_state.restore(own)
    if not hasattr(model, "optimizer"):
        raise ConfigError(f"the trainer of {package.folder} makes no Keras model: another format needs none")
    return model


def model_file(path: Path, package: Package) -> ModelFile:
    """Reads a model file for a package, with its roles. Its network is used for a file of Keras' weights alone."""
    found = formats.read(path, lambda: keras_model(package))
    return found.with_roles({name: role for name, role in package.roles.items() if name in found.weights})


class _Functions:
    """Module-level functions in the shape of a trainer."""

    def __init__(self, functions: Mapping[str, Any]) -> None:
        self.__dict__.update(functions)

    train: Any


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A trainer's module, and what running its file changed of the process."""

    module: ModuleType
    changes: process_state.State


_loaded: dict[Path, _Loaded] = {}


def forget(folder: Path) -> None:
    """Makes the next `build` of this package read its files anew, as they may have changed."""
    imports.forget(folder)
    for path in [path for path in _loaded if path.is_relative_to(folder)]:
        del _loaded[path]


def _module(folder: Path, path: Path) -> ModuleType:
    """Returns the module of a trainer's file, which is run once a process, and enters its folder."""
    imports.bring_modules(folder)
    if path in _loaded:
        process_state.write(_loaded[path].changes)
        return _loaded[path].module
    before = process_state.read()
    imports.enter(folder)
    module = imports.run_file(folder, path)
    os.chdir(folder)
    _loaded[path] = _Loaded(module, process_state.differences(before, process_state.read()))
    return module
