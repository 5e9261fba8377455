"""Builds the trainer of a package: runs the user's file, or wraps the commands."""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from fedmq.errors import ConfigError
from fedmq_client.frameworks.flower import flower_trainer
from fedmq_client.packages.commands import CommandTrainer
from fedmq_client.packages.package import FLOWER, MANIFEST, Package, PackageError
from fedmq_client.trainer import Client, Trainer

NAMES = ("train", "validate", "init", "roles", "meta", "test_set")


def build(package: Package, client: Client) -> Trainer:
    """Runs the trainer's file and returns the trainer of `client`, or one that runs the commands.

    A package with both uses its trainer, unless `client.form` is commands. The file is run once a process, however many
    clients it serves. Its folder is added to `sys.path`, so that it can import modules beside it; two packages of one
    process should not give these the same name. Raises PackageError if the class or its `train` is missing. Exceptions
    of the user's code pass.
    """
    if package.runs_commands(client.form):
        return CommandTrainer(package, client)
    if package.trainer is None:
        raise PackageError(f"{package.folder / MANIFEST} names no trainer, only commands")
    file, _, name = package.trainer.removeprefix(FLOWER).partition(":")
    module = _module(package.folder, package.folder / file)
    found = vars(module)
    if package.trainer.startswith(FLOWER):
        return flower_trainer(package.folder, found.get(name), f"{name} of {file}", client)
    if not name:
        if not callable(found.get("train")):
            raise PackageError(
                f"{file} has no function train(weights, task): write it, or name a class "
                f"in {MANIFEST} with `trainer: {file}:CLASS`"
            )
        return _Functions({key: found[key] for key in NAMES if found.get(key) is not None})
    cls = found.get(name)
    if not inspect.isclass(cls):
        classes = [key for key, value in found.items() if inspect.isclass(value) and hasattr(value, "train")]
        hint = f"it has {', '.join(classes)}" if classes else "it has no class with a train method"
        raise PackageError(f"{file} has no class {name}, which {MANIFEST} names: {hint}")
    if not callable(getattr(cls, "train", None)):
        raise PackageError(f"class {name} in {file} has no method train(self, weights, task)")
    trainer: Trainer = cast(Callable[[Client], Trainer], cls)(client)
    return trainer


def keras_model(package: Package) -> Any:
    """Returns the untrained Keras model of a package's trainer. Raises ConfigError if it has none."""
    trainer: Any = build(package, Client("export"))
    if not callable(getattr(trainer, "model", None)):
        raise ConfigError(f"the trainer of {package.folder} has no model(): another format needs none")
    model = trainer.model()
    if not hasattr(model, "optimizer"):
        raise ConfigError(f"the trainer of {package.folder} makes no Keras model: another format needs none")
    return model


class _Functions:
    """Module-level functions in the shape of a trainer."""

    def __init__(self, functions: Mapping[str, Any]) -> None:
        self.__dict__.update(functions)

    train: Any


_modules: dict[Path, ModuleType] = {}


def _module(folder: Path, path: Path) -> ModuleType:
    """Returns the module of a trainer's file, which is run once a process, under a name of its own."""
    if path in _modules:
        return _modules[path]
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    name = f"fedmq_package_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _modules[path] = module
    return module
