"""One job, from bytes to bytes: build the trainer, call it, check what it returns, encode it.

Used by both pools, so that a trainer meets the same treatment in a simulation and in a hospital.
"""

import mmap
import os
import random
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fedmq import tensors
from fedmq_client import package as packages
from fedmq_client.pool import Blob, Job, Result, Validated
from fedmq_client.trainer import Cancelled, Client, Task, Trainer, Weights

TRACEBACK_CHARACTERS = 8_000
REASON_CHARACTERS = 300
MOST_EXAMPLES = 2**53 - 1
"""What float64 counts exactly."""


class Rubbish(Exception):
    """A trainer returned what can't be used. The text says what, and what to return instead."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a running job tells, and asks, the outside."""

    validated: Callable[[Validated], None]
    progress: Callable[[float, dict[str, Any]], None]
    cancelled: Callable[[], bool]


class Trainers:
    """The warm trainers of one process, by package and client, and the model it saw last.

    A trainer that failed or was cancelled is dropped, as it may be left half way.
    """

    def __init__(self) -> None:
        self._trainers: dict[tuple[Path, str], tuple[Client, Trainer]] = {}
        self._model_key: object = None
        self._model: tuple[Weights, dict[str, Any]] = ({}, {})

    def get(self, folder: Path, client: Client) -> Trainer:
        """The trainer of `client`, built anew if anything about the client changed."""
        known = self._trainers.get((folder, client.name))
        if known is not None and known[0] == client:
            return known[1]
        trainer = packages.build(packages.load(folder), client)
        self._trainers[folder, client.name] = (client, trainer)
        return trainer

    def drop(self, folder: Path, client: Client) -> None:
        self._trainers.pop((folder, client.name), None)

    def model(self, blob: Blob) -> tuple[Weights, dict[str, Any]]:
        """Read-only weights and metadata; the last model is kept, as a round's clients share it."""
        key: object = blob
        if isinstance(blob, Path):
            status = blob.stat()
            key = (blob, status.st_ino, status.st_size, status.st_mtime_ns)
        elif blob is self._model_key:
            return self._model
        if isinstance(blob, bytes) or key != self._model_key:
            self._model = tensors.decode(_read(blob))
            self._model_key = key
        return self._model


def run(job: Job, trainers: Trainers, hooks: Hooks) -> Result:
    """Do the job. Never raises for what a trainer does, except KeyboardInterrupt.

    `job.timeout` counts from now. Writes files only at `job.output`.
    """
    running = _Running(job, trainers, hooks)
    try:
        result = running.result()
    except Cancelled:
        result = Result(job.id, "cancelled", reason="cancelled")
    except Rubbish as error:
        result = Result(job.id, "failed", reason=str(error))
    except (Exception, SystemExit) as error:
        reason = f"{running.step} raised {type(error).__name__}: {error}".strip(": ")
        result = Result(
            job.id,
            "failed",
            reason=reason.replace("\n", " ")[:REASON_CHARACTERS],
            traceback=_format(error),
        )
    if result.outcome in ("failed", "cancelled"):
        trainers.drop(job.package, job.client)
    return replace(result, seconds=running.seconds)


class _Running:
    def __init__(self, job: Job, trainers: Trainers, hooks: Hooks) -> None:
        self.job = job
        self.trainers = trainers
        self.hooks = hooks
        self.step = "the package"
        self.seconds: dict[str, float] = {}
        self.ends = time.monotonic() + job.timeout

    def result(self) -> Result:
        job = self.job
        trainer = self.trainers.get(job.package, job.client)
        if job.kind == "init":
            return self._init(trainer)
        if job.model is None:
            raise Rubbish(f"a {job.kind} job needs a model")
        self.step = "reading the model"
        model, meta = self.trainers.model(job.model)
        state = {} if job.state is None else tensors.decode(_read(job.state))[0]
        if job.kind == "validate":
            return self._validate_only(trainer, model, state)
        if job.validate:
            validated = self._validate(trainer, model, state)
            if validated is not None:
                self.hooks.validated(validated)
        return self._train(trainer, model, meta, state)

    def _init(self, trainer: Trainer) -> Result:
        make = getattr(trainer, "init", None)
        if make is None:
            raise Rubbish(
                "the trainer has no init(): write one that returns the first weights, or start from a seed model"
            )
        weights = self._call("init", make)
        if not isinstance(weights, Mapping) or not weights:
            raise Rubbish(f"init returned {_kind(weights)}: return a dict of named numpy arrays")
        roles = getattr(trainer, "roles", {})
        meta = {"roles": dict(roles() if callable(roles) else roles)}
        weights = {name: np.asarray(value) for name, value in weights.items()}
        tensors.spec_of(weights, meta)
        blob = tensors.encode(weights, meta)
        return Result(self.job.id, "done", update=self._store(blob, ""))

    def _validate_only(self, trainer: Trainer, model: Weights, state: Weights) -> Result:
        if not hasattr(trainer, "validate"):
            raise Rubbish("the trainer has no validate(weights, task): write it, or ask for train")
        validated = self._validate(trainer, model, state)
        if validated is None:
            return Result(self.job.id, "abstained")
        return Result(self.job.id, "done", validated.examples, validated.metrics)

    def _validate(self, trainer: Trainer, model: Weights, state: Weights) -> Validated | None:
        validate = getattr(trainer, "validate", None)
        if validate is None:
            return None
        answer = self._call("validate", validate, _own(model), self._task(state))
        if answer is None:
            return None
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise Rubbish(f"validate returned {_kind(answer)}: return examples, metrics or None")
        examples, metrics = answer
        return Validated(
            self.job.id,
            _examples("validate", examples),
            _metrics("validate", metrics),
            self.seconds["validate"],
        )

    def _train(self, trainer: Trainer, model: Weights, meta: dict[str, Any], state: Weights) -> Result:
        task = self._task(state)
        answer = self._call("train", trainer.train, _own(model), task)
        if answer is None:
            return Result(self.job.id, "abstained")
        if not isinstance(answer, tuple) or len(answer) != 3:
            raise Rubbish(f"train returned {_kind(answer)}: return weights, examples, metrics or None")
        weights, examples, metrics = answer
        new = _weights(weights, model)
        examples = _examples("train", examples)
        metrics = _metrics("train", metrics)
        update = tensors.encode(tensors.delta(new, model), meta)
        kept: Blob | None = None
        if task.state:
            kept = self._store(tensors.encode(_state(task.state), {}), ".state")
        return Result(self.job.id, "done", examples, metrics, update=self._store(update, ""), state=kept)

    def _task(self, state: Weights) -> Task:
        job = self.job
        return Task(
            client=job.client,
            session=job.session,
            round=job.round,
            rounds=job.rounds,
            seed=job.seed,
            timeout=self.ends - time.monotonic(),
            config=job.config,
            state=_own(state),
            progress=lambda fraction, metrics: self.hooks.progress(fraction, _metrics("report", metrics)),
            is_cancelled=self.hooks.cancelled,
        )

    def _call(self, step: str, function: Callable[..., Any], *arguments: Any) -> Any:
        self.step = step
        random.seed(self.job.seed)
        np.random.seed(self.job.seed & 0xFFFFFFFF)
        started = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self.seconds[step] = time.perf_counter() - started

    def _store(self, blob: bytes, suffix: str) -> Blob:
        if self.job.output is None:
            return blob
        path = self.job.output.with_name(self.job.output.name + suffix)
        scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            scratch.write_bytes(blob)
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
        return path


def _read(blob: Blob) -> bytes | memoryview:
    """A file is mapped, not read: workers on one machine share its pages. Blobs never change."""
    if isinstance(blob, bytes):
        return blob
    with open(blob, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _own(weights: Weights) -> Weights:
    return {name: value.copy() for name, value in weights.items()}


def _weights(weights: Any, model: Weights) -> Weights:
    if not isinstance(weights, Mapping):
        raise Rubbish(
            f"train returned {_kind(weights)} as weights: return a dict of arrays with the names that it received"
        )
    for what, names in (
        ("lack tensors of the model", [name for name in model if name not in weights]),
        ("have tensors that the model has not", [name for name in weights if name not in model]),
    ):
        if names:
            raise Rubbish(f"the weights that train returned {what}: {_some(names)}")
    new = {name: np.asarray(weights[name]) for name in model}
    wrong = [
        f"{name} is {new[name].shape}, not {old.shape}" for name, old in model.items() if new[name].shape != old.shape
    ]
    if wrong:
        raise Rubbish(f"the weights that train returned have wrong shapes: {_some(wrong)}")
    wrong = [
        f"{name} is {new[name].dtype}, not {old.dtype}"
        for name, old in model.items()
        if new[name].dtype != old.dtype and not np.can_cast(new[name].dtype, old.dtype, casting="same_kind")
    ]
    if wrong:
        raise Rubbish(f"the weights that train returned have wrong types: {_some(wrong)}")
    with np.errstate(over="ignore"):
        return {name: value.astype(model[name].dtype, copy=False) for name, value in new.items()}


def _state(state: Weights) -> Weights:
    arrays = {name: np.asarray(value) for name, value in state.items()}
    wrong = [str(name) for name, value in arrays.items() if value.dtype == object]
    if wrong:
        raise Rubbish(f"task.state must hold numpy arrays; these are not: {_some(wrong)}")
    return arrays


def _examples(step: str, examples: Any) -> int:
    if isinstance(examples, bool) or not isinstance(examples, Integral) or not 0 <= int(examples) <= MOST_EXAMPLES:
        raise Rubbish(f"{step} returned {examples!r:.50} as examples: return an int of 0 or more")
    return int(examples)


def _metrics(step: str, metrics: Any) -> dict[str, Any]:
    if not isinstance(metrics, Mapping):
        raise Rubbish(f"{step} returned {_kind(metrics)} as metrics: return a dict of numbers")
    return {str(name): plain(value, f"metric {name!r}") for name, value in metrics.items()}


def plain(value: Any, what: str) -> Any:
    """`value` in the types that a message can hold: numpy's become Python's. Raises Rubbish."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise Rubbish(f"{what} is an int that 64 bits can't hold")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(item, what) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, what) for item in value]
    if hasattr(value, "__float__"):
        return float(value)
    raise Rubbish(f"{what} is {_kind(value)}: use numbers, strings or lists")


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _some(names: list[Any]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(str(name) for name in names[:3]) + more


def _format(error: BaseException) -> str:
    """The traceback from the user's first frame on, its end kept if it is too long."""
    frames: TracebackType | None = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    return text[-TRACEBACK_CHARACTERS:]
