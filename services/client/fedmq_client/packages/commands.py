"""Runs a package's commands as a trainer: FEDn's form of a compute package, in any language.

    entry_points:
      startup:  {command: python data.py}        # once before the first task of a process
      build:    {command: python model.py}       # makes the seed: ../seed.npz
      train:    {command: python train.py}       # train.py IN OUT
      validate: {command: python validate.py}    # validate.py IN OUT

A command runs as `bash -c "COMMAND IN OUT"` in the package's folder.

- train: IN is the model (`.npz`, `.safetensors` or `.h5`, as `format` says) and `IN-metadata` the session's
  configuration as JSON. OUT is an empty file with the same suffix. The command writes the new model to OUT, and JSON
  with `num_examples` to `OUT-metadata`; its other keys are kept as metrics. With h5 there is no metadata, and each
  update has the weight 1.
- validate: the same IN. OUT has no suffix; the command writes JSON of the metrics, which are averaged equally. An
  evaluator runs it only if `fedn.yaml` has `test_set: true`: where `FEDMQ_EVALUATOR` is 1 the command scores a test set.
- An exit code other than 0 is a failure. The last lines of output are reported with it.

The Python of the package's environment, or FedMQ's, is first on the command's PATH. The command's environment holds
`FEDN_DATA_PATH` if the client has data, and `FEDMQ_CLIENT`, `FEDMQ_ORDINAL`, `FEDMQ_COUNT`, `FEDMQ_EVALUATOR` (1 or 0),
`FEDMQ_RANDOM_SEED`, `FEDMQ_SESSION`, `FEDMQ_ROUND`, `FEDMQ_ROUNDS` and `FEDMQ_SEED`. In variables that begin with `FEDN_`,
`{n}` becomes the client's number, from 1: `FEDN_DATA_PATH=/data/clients/{n}/mnist.pt` gives each client of a sandbox a part.
An evaluator's `{n}` is its name (`evaluator` in a sandbox), as the numbers are those of clients that train.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedmq.errors import ConfigError
from fedmq.model_files import formats
from fedmq.tensors import Weights
from fedmq_client.checks import InvalidResult, without_values
from fedmq_client.packages import environments, exchange, process_groups
from fedmq_client.packages.package import MANIFEST, Package, PackageError
from fedmq_client.trainer import NUMBER, Client, Form, Task, TrainerMetrics, numbered

SHIM = Path(__file__).parent / "fedn_shim"
DATA_EACH = f"FEDN_DATA_PATH=/…/clients/{NUMBER}/…"
"""How a message names the variable with a part for each client."""
FIRST_PART = Path("data/clients/1")
"""What packages of FEDn train on where no FEDN_DATA_PATH is set."""
SEED = "../seed"
"""The file that `build` makes, without its suffix, relative to the package's folder."""

log = logging.getLogger("fedmq.client")

_started: set[tuple[Path, str]] = set()


def prepare(package: Package, form: Form | None, python_env: bool) -> None:
    """Makes the environment of the commands, once, before any task: it takes minutes. Raises PackageError.

    A trainer needs none. It raises PackageError too if what the environment describes is not installed.
    """
    if not python_env or package.python_env is None:
        return
    if package.runs_commands(form):
        environments.prepare(package.python_env)
    else:
        environments.check_installed(package.python_env)


class CommandTrainer:
    """Runs the commands of a package for one client. It has no method `validate` if the package has no such command."""

    validate: Callable[[Weights, Task], tuple[int | None, TrainerMetrics]]
    init: Callable[[], Weights]

    def __init__(self, package: Package, client: Client) -> None:
        """Raises PackageError if the package has no command to train or validate, or its environment can't be made."""
        self._package = package
        self._client = client
        self._meta: dict[str, Any] = {}
        if not {"train", "validate"} & package.entry_points.keys():
            raise PackageError(f"{package.folder / MANIFEST} names no train command: it has only a trainer")
        if "validate" in package.entry_points:
            self.validate = self._validate
        self.init = self._init
        if package.format == "h5":
            log.warning("%s: format h5 knows no number of examples: each update weighs 1", package.folder)
        self._environment = _environment(package, client)

    def train(self, weights: Weights, task: Task) -> tuple[Weights, int, TrainerMetrics]:
        """Runs the train command. Raises InvalidResult if there is none, it fails, or its output is no model."""
        if "train" not in self._package.entry_points:
            raise without_values(f"{MANIFEST} names no train command")
        form = self._package.format
        with self._files(weights, task) as source:
            target = source.with_name(f"out.{form}")
            target.touch()
            self._run("train", task, source, target)
            if note := self._shared_data():
                task.note(note)
            new = exchange.read(form, target, weights)
            if form == "h5":
                return new, 1, {}
            metadata = _json(target.with_name(target.name + "-metadata"), "train", "num_examples")
        if "num_examples" not in metadata:
            raise without_values("the train command's OUT-metadata has no num_examples")
        examples = metadata.pop("num_examples")
        if isinstance(examples, float) and examples.is_integer():
            examples = int(examples)
        return new, examples, metadata

    def _shared_data(self) -> str:
        """Returns a note if clients without data of their own seem to train on the same part."""
        has_data = self._client.data is not None or "FEDN_DATA_PATH" in os.environ
        if self._client.count < 2 or has_data or not (self._package.folder / FIRST_PART).exists():
            return ""
        return f"without {DATA_EACH}, commands written for FEDn train every client on {FIRST_PART}"

    def _missing_data(self) -> str:
        """Returns a note if the variable for all clients names data of an evaluator that are not there."""
        path = self._environment.get("FEDN_DATA_PATH", "")
        named = NUMBER in f"{self._client.data} {os.environ.get('FEDN_DATA_PATH')}"
        if not self._client.evaluator or not named or "://" in path or Path(path).exists():
            return ""
        return f"the evaluator's FEDN_DATA_PATH, {path}, is not there ({NUMBER} is its name): put its test set there"

    def meta(self) -> Mapping[str, Any]:
        """Returns the metadata of the seed's file, once `init` has read it."""
        return {key: value for key, value in self._meta.items() if key != "roles"}

    def roles(self) -> Mapping[str, str]:
        """Returns the roles in the seed's file. Without any, the defaults of `TensorRole` hold."""
        return dict(self._meta.get("roles", {}))

    def _validate(self, weights: Weights, task: Task) -> tuple[int | None, TrainerMetrics]:
        with self._files(weights, task) as source:
            target = source.with_name("metrics")
            target.touch()
            if note := self._missing_data():
                task.note(note)
            self._run("validate", task, source, target)
            return None, _json(target, "validate", "accuracy")

    def _init(self) -> Weights:
        """Returns the seed that `build` makes, or that exists already. Raises InvalidResult if there is none."""
        if "build" in self._package.entry_points:
            self._run("build", None)
        folder = (self._package.folder / SEED).resolve()
        found = [folder.with_suffix(suffix) for suffix in (f".{self._package.format}", ".npz", ".safetensors", ".h5")]
        for path in found:
            if path.is_file():
                break
        else:
            raise InvalidResult(
                f"there is no seed: write a build command that makes {SEED}.{self._package.format}, or give one"
            )
        try:
            model = formats.read(path)
        except ConfigError as error:
            raise InvalidResult(error.reason) from error
        self._meta = dict(model.meta)
        return dict(model.weights)

    @contextmanager
    def _files(self, weights: Weights, task: Task) -> Iterator[Path]:
        """Makes a folder for one task, with the model and its metadata, and deletes it at the end."""
        form = self._package.format
        with tempfile.TemporaryDirectory(prefix="fedmq-") as folder:
            source = Path(folder, f"in.{form}")
            exchange.write(form, weights, task.meta, source)
            source.with_name(source.name + "-metadata").write_text(json.dumps(task.config))
            yield source

    def _run(self, name: str, task: Task | None, *arguments: Path) -> None:
        if task is not None:
            self._start(task)
        environment = {**self._environment, **_about(task)}
        command = " ".join([self._package.entry_points[name], *(shlex.quote(str(path)) for path in arguments)])

        def check() -> None:
            if task is not None:
                task.check()
                if task.deadline < 0:
                    raise without_values(f"the {name} command took longer than the task may")

        code = process_groups.run(command, self._package.folder, environment, check)
        if code:
            how = f"ended with exit code {code}" if code > 0 else f"was killed by signal {-code}"
            text = f"the {name} command ({self._package.entry_points[name]}) {how}"
            raise InvalidResult(text, f"the {name} command {how}")

    def _start(self, task: Task) -> None:
        """Runs `startup` once in a process. Clients that share a folder wait for each other."""
        key = (self._package.folder, self._client.name)
        if "startup" not in self._package.entry_points or key in _started:
            return
        _started.add(key)
        try:
            with environments.locked(self._package.folder / MANIFEST, "r"):
                self._run("startup", task)
        except BaseException:
            _started.discard(key)
            raise


def _environment(package: Package, client: Client) -> dict[str, str]:
    """Returns the environment that all commands of a client share."""
    environment = dict(os.environ)
    folder = Path(sys.executable).parent
    if package.python_env is not None and client.python_env:
        folder = environments.prepare(package.python_env)
        environment["VIRTUAL_ENV"] = str(folder.parent)
    environment["PATH"] = os.pathsep.join(filter(None, [str(folder), environment.get("PATH")]))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(SHIM)]))
    if client.data is not None:
        environment["FEDN_DATA_PATH"] = str(client.data.absolute())
    for name, value in environment.items():
        if name.startswith("FEDN_"):
            environment[name] = numbered(value, client)
    return environment | {
        "FEDMQ_CLIENT": client.name,
        "FEDMQ_ORDINAL": str(client.ordinal),
        "FEDMQ_COUNT": str(client.count),
        "FEDMQ_EVALUATOR": str(int(client.evaluator)),
        "FEDMQ_RANDOM_SEED": str(client.random_seed),
    }


def _about(task: Task | None) -> dict[str, str]:
    if task is None:
        return {}
    return {
        "FEDMQ_SESSION": task.session,
        "FEDMQ_ROUND": str(task.round),
        "FEDMQ_ROUNDS": str(task.rounds),
        "FEDMQ_SEED": str(task.seed),
    }


def _json(path: Path, name: str, example: str) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            raise without_values(f"the {name} command wrote nothing to {path.name}: write JSON with {example}")
        found = json.loads(text)
    except FileNotFoundError:
        raise without_values(f"the {name} command wrote no {path.name}: JSON with {example}") from None
    except ValueError as error:
        text = f"what the {name} command wrote to {path.name} is no JSON"
        raise InvalidResult(f"{text}: {error}", text) from error
    if not isinstance(found, dict):
        raise without_values(
            f"the {name} command wrote {type(found).__name__} to {path.name}: write an object with {example}"
        )
    return found
