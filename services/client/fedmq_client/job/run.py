"""Runs one job, from bytes to bytes, for both pools: builds the trainer, calls it, checks and encodes its result."""

import bdb
import os
import random
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fedmq import error_detail, tensors
from fedmq.errors import FedMQError
from fedmq.evaluators import NO_VALIDATE
from fedmq.model_files.dtypes import widened
from fedmq.tensors import Weights
from fedmq.tensors.opaque import named_opaque
from fedmq.value import value
from fedmq_client import checks, frameworks
from fedmq_client.frameworks.held_out import WithTestData
from fedmq_client.job import process_state
from fedmq_client.job.evaluation import missing_test_set
from fedmq_client.job.explanation import Explanation, text_of
from fedmq_client.job.first_model import first_weights, misfit
from fedmq_client.job.job import Blob, Job, Result, Validated
from fedmq_client.job.notes import NoteCollector
from fedmq_client.job.partial_model import Whole, clipped, kept_and_state
from fedmq_client.job.place import own_file
from fedmq_client.job.trainers import Trainers, read_blob
from fedmq_client.packages import package as packages
from fedmq_client.trainer import Cancelled, Task, Trainer

TRACEBACK_CHARACTERS = 8_000
REASON_CHARACTERS = 300
CALLERS = (str(Path(__file__).parent), "<frozen importlib")
"""Files whose frames lie between a job and a trainer. All of them are FedMQ's, and those of imports Python's."""
OURS = (str(Path(__file__).parents[1]), str(Path(tensors.__file__).parents[1]), "<frozen importlib")


@value
class Hooks:
    """What a running job reports, and how it learns that it is cancelled."""

    validated: Callable[[Validated], None]
    progress: Callable[[float, dict[str, Any]], None]
    cancelled: Callable[[], bool]


FAILURES = (Exception, SystemExit)
"""What fails a job. KeyboardInterrupt, which a key press of the user raises, passes."""


def run(job: Job, trainers: Trainers, hooks: Hooks, failures: tuple[type[BaseException], ...] = FAILURES) -> Result:
    """Runs the job, with `job.timeout` from now. Never raises for what a trainer does, but what is none of `failures`.

    Whatever the trainer changed of the process is restored at the end; what can't be is in `trainers.spoilt`.
    """
    running = _Running(job, trainers, hooks)
    try:
        result = running.result()
    except Cancelled:
        result = Result(job.id, "cancelled", reason="cancelled", seconds=running.seconds)
    except failures as error:
        explained = running.explain(error)
        result = Result(
            job.id,
            "failed",
            reason=explained.reason,
            traceback=explained.traceback,
            plain=explained.plain,
            frames=explained.frames,
            seconds=running.seconds,
        )
    finally:
        trainers.spoilt += process_state.restore(running.own)
    if result.outcome in ("failed", "cancelled"):
        trainers.drop(job.package, job.client)
    if result.outcome == "abstained":
        result = replace(result, plain=result.reason)  # all of these are FedMQ's, and quote nothing
    notes = running.notes.take()
    return replace(result, notes=notes.texts, plain_notes=notes.plain) if notes.texts else result


class _Running:
    def __init__(self, job: Job, trainers: Trainers, hooks: Hooks) -> None:
        self.job = job
        self.trainers = trainers
        self.hooks = hooks
        self.own = process_state.read() if trainers.own is None else trainers.own
        self.step = ""
        self.seconds: dict[str, float] = {}
        self.notes = NoteCollector()
        self.ends = time.monotonic() + job.timeout

    def result(self) -> Result:
        job = self.job
        trainer = self.trainers.get(job.package, job.client)
        untested = missing_test_set(self.trainers.package(job.package), trainer, job.client)
        if job.kind == "describe":
            states = {"test_set": not untested, "validates": hasattr(trainer, "validate")}
            return Result(job.id, "done", metrics=states, reason=untested, seconds=self.seconds)
        if job.kind == "validate" and job.client.evaluator and untested:
            return Result(job.id, "abstained", reason=untested, seconds=self.seconds)
        if job.kind == "init":
            return self._init(trainer)
        if job.model is None:
            raise checks.without_values(f"a {job.kind} job needs a model")
        self.step = "reading the model"
        shared, meta = self.trainers.model(job.model)
        shared = widened(shared, meta, self.notes.add)
        base, base_meta = ({}, {}) if job.base is None else self.trainers.model(job.base, "base")
        base = widened(base, base_meta, self.notes.add)
        kept, state = kept_and_state({} if job.state is None else tensors.decode(read_blob(job.state))[0])
        model = Whole(shared, meta, base, base_meta, kept)
        if job.kind == "compare":
            make: Any = getattr(trainer, "init", None)
            differs = misfit(model.weights, make()) if _is_shipped(trainer) else ""
            return Result(job.id, "done", reason=differs, seconds=self.seconds)
        if job.kind == "validate":
            return self._validate_only(trainer, model, state)
        if job.validate:
            trainer = self._validate_first(trainer, model, state)
        return self._train(trainer, model, state)

    def explain(self, error: BaseException) -> Explanation:
        """Returns the reason of a failed step, in one line, and its traceback or further lines."""
        if isinstance(error, packages.PackageError):
            reason, _, more = error.reason.partition("\n")
            return Explanation(reason, more, f"the package can't be used: {type(error).__name__}")
        if isinstance(error, bdb.BdbQuit):
            self.trainers.has_quit = True
            text = (
                f"{self.step or self._file()} left the debugger (BdbQuit): breakpoint() needs `fedmq sandbox --debug`"
            )
            return Explanation(text, plain=text)
        subject = f"{self.step} raised" if self.step else f"{self._file()}:"
        plain = f"{subject} {type(error).__name__}"
        if isinstance(error, checks.InvalidResult):
            return Explanation(str(error), plain=error.plain or plain)
        reason = f"{plain}: {text_of(error)}".strip(": ")
        places = error_detail.frames(error, partial(own_file, self.job.package))
        return Explanation(reason.replace("\n", " ")[:REASON_CHARACTERS], _format(error), plain, places)

    def _file(self) -> str:
        """Returns the name of the file that is being run or whose class is being called, before any step."""
        return self.trainers.package(self.job.package).file

    def _init(self, trainer: Trainer) -> Result:
        make = getattr(trainer, "init", None)
        if make is None:
            raise checks.without_values(
                f"the trainer has no init(): write one that returns the first weights, or {checks.GIVE_A_FILE}"
            )
        found = self._call("init", make)
        roles = {**_described(trainer, "roles"), **self.trainers.package(self.job.package).roles}
        meta = {**_described(trainer, "meta"), "roles": roles}
        blob = tensors.encode(first_weights(found, meta, self.notes.add), meta)
        return Result(self.job.id, "done", update=self._store(blob, ""), seconds=self.seconds)

    def _validate_only(self, trainer: Trainer, model: Whole, state: Weights) -> Result:
        if not hasattr(trainer, "validate"):
            raise checks.without_values(NO_VALIDATE)
        validated = self._validate(trainer, model, state)
        if isinstance(validated, str):
            return Result(self.job.id, "abstained", reason=validated, seconds=self.seconds)
        return Result(self.job.id, "done", validated.examples, validated.metrics, seconds=self.seconds)

    def _validate_first(self, trainer: Trainer, model: Whole, state: Weights) -> Trainer:
        """Reports the validation of the received model, or why it has no metrics: that costs no training.

        Returns the trainer to train with: built anew after an exception, which may have left it incomplete.
        """
        try:
            validated = self._validate(trainer, model, state) if hasattr(trainer, "validate") else NO_VALIDATE
        except Cancelled:
            raise
        except (Exception, SystemExit) as error:
            explained, notes = self.explain(error), self.notes.take()
            seconds = self.seconds.get("validate", 0.0)
            validated = Validated(self.job.id, None, {}, seconds, notes.texts, *explained, plain_notes=notes.plain)
            self.notes.add(explained.reason, explained.plain)
            if not isinstance(error, checks.InvalidResult):
                self.trainers.drop(self.job.package, self.job.client)
                self.trainers.spoilt += process_state.restore(self.own)
                trainer = self.trainers.get(self.job.package, self.job.client)
        else:
            notes = self.notes.take()
            if isinstance(validated, str):
                seconds = self.seconds.get("validate", 0.0)
                validated = Validated(self.job.id, None, {}, seconds, reason=validated, plain=validated, abstained=True)
            if notes.texts:
                validated = replace(validated, notes=notes.texts, plain_notes=notes.plain)
        self.hooks.validated(validated)
        return trainer

    def _validate(self, trainer: Trainer, model: Whole, state: Weights) -> Validated | str:
        """Returns the score of the model, or the reason why there is none."""
        validate: Callable[..., Any] = trainer.validate  # type: ignore[attr-defined]
        answer = self._call("validate", validate, _own(model.weights), self._task(model, state))
        if answer is None:
            return "validate returned None"
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise checks.without_values(f"validate returned {checks.kind(answer)}: return examples, metrics or None")
        examples, metrics = answer
        examples = None if examples is None else checks.examples("validate", examples)
        if examples == 0:
            return "validate used no examples"
        return Validated(
            self.job.id,
            examples,
            checks.metrics("validate", metrics, self.notes.add),
            self.seconds["validate"],
        )

    def _train(self, trainer: Trainer, model: Whole, state: Weights) -> Result:
        task = self._task(model, state)
        given = model.weights
        answer = self._call("train", trainer.train, _own(given), task)
        if answer is None:
            return Result(self.job.id, "abstained", reason="train returned None", seconds=self.seconds)
        if not isinstance(answer, tuple) or len(answer) != 3:
            raise checks.without_values(
                f"train returned {checks.kind(answer)}: return weights, examples, metrics or None"
            )
        weights, examples, metrics = answer
        new = checks.weights(weights, given, named_opaque(model.meta))
        if changed := model.changed(new):
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            self.notes.add(f"the policy freezes {changed[0]}{more}, so its value from train is not used")
        examples = checks.examples("train", examples)
        if examples == 0:
            return Result(self.job.id, "abstained", reason="train used no examples", seconds=self.seconds)
        try:
            metrics = checks.metrics("train", metrics, self.notes.add)
        except checks.InvalidResult as error:
            self.notes.add(str(error), error.plain)
            metrics = {}
        blob = self._update(model, model.shared_of(new))
        kept: Blob | None = None
        keep = checks.state(task.state, self.notes.add) | model.local_of(new)
        if keep:
            kept = self._store(tensors.encode(keep, dict(self.job.origin)), ".state")
        update = self._store(blob, "")
        return Result(self.job.id, "done", examples, metrics, update=update, state=kept, seconds=self.seconds)

    def _update(self, model: Whole, new: Weights) -> bytes:
        flat = self.trainers.flat(model.shared, model.meta) if self.job.update.get("clip_norm") is None else None
        if flat is not None:
            return flat.update(new)
        delta = tensors.delta(new, model.shared, model.meta)
        return tensors.encode(clipped(delta, model.shared, model.meta, self.job.update.get("clip_norm")), model.meta)

    def _task(self, model: Whole, state: Weights) -> Task:
        job = self.job
        return Task(
            client=job.client,
            session=job.session,
            round=job.round,
            rounds=job.rounds,
            seed=job.random_seed,
            timeout=self.ends - time.monotonic(),
            config=job.config,
            state=_own(state),
            meta=model.meta,
            frozen=model.frozen,
            progress=self._report,
            note=self._note,
            is_cancelled=self.hooks.cancelled,
        )

    def _note(self, text: str) -> None:
        """Adds a note of the trainer. Its plain form does not name the site's data, as notes of commands do."""
        data = str(self.job.client.data or "")
        self.notes.add(text, text.replace(data, "…") if data else text)

    def _report(self, fraction: float, metrics: Mapping[str, Any]) -> None:
        self.hooks.progress(fraction, checks.metrics("report", metrics, self.notes.add))

    def _call(self, step: str, function: Callable[..., Any], *arguments: Any) -> Any:
        self.step = step
        random.seed(self.job.random_seed)
        np.random.seed(self.job.random_seed & 0xFFFFFFFF)
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


def _is_shipped(trainer: Trainer) -> bool:
    """Returns whether `init` and `train` are those of a trainer that FedMQ ships, which needs its network's tensors."""
    methods = (getattr(type(trainer), name, None) for name in ("init", "train"))
    shipped = f"{frameworks.__name__}."
    return isinstance(trainer, WithTestData) and all(each.__module__.startswith(shipped) for each in methods)


def _described(trainer: Trainer, name: str) -> dict[str, Any]:
    """Returns what a trainer declares of its models, in an attribute or by a method."""
    found = getattr(trainer, name, {})
    return dict(found() if callable(found) else found)


def _own(weights: Weights) -> Weights:
    return {name: value.copy() for name, value in weights.items()}


def _without(frames: TracebackType | None, files: tuple[str, ...]) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(files):
        frames = frames.tb_next
    return frames


def _format(error: BaseException) -> str:
    """Returns the traceback from the user's first frame on; of a long one the end.

    Of an error outside of the user's code it returns the frames of the framework's trainer, if one was called, and none if
    FedMQ refuses what the user's code returned: the reason says all, in the user's terms.
    """
    users = _without(error.__traceback__, OURS)
    if users is None and isinstance(error, FedMQError):
        return ""
    text = "".join(traceback.format_exception(type(error), error, users or _without(error.__traceback__, CALLERS)))
    return text[-TRACEBACK_CHARACTERS:]
