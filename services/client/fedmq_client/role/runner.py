"""Carries out a client's tasks: fetch the model, let a worker train, keep the update, upload it."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedmq.blobs import transfer
from fedmq.blobs.base import STORE
from fedmq.blobs.checks import opened
from fedmq.error_detail import ErrorDetail
from fedmq.errors import FedMQError, Refused, Transient
from fedmq.evaluators import NO_VALIDATE
from fedmq.runtime.effects import CoreEvent
from fedmq.runtime.stalls import Stalls
from fedmq.scheduler import Scheduler
from fedmq_client.job.job import Blob, Job, Pool, Result, Validated
from fedmq_client.personal.kept_state import origin_of
from fedmq_client.role import operations
from fedmq_client.role.model_cache import Models
from fedmq_client.role.operations import (
    Abandon,
    AssignPart,
    Forget,
    Measure,
    Measured,
    RunTask,
    TaskKey,
    TaskResult,
    Upload,
    task_key,
)
from fedmq_client.role.published_detail import published
from fedmq_client.role.store import Store
from fedmq_client.trainer import Client
from fedmq_schemas.limits import LONGEST_NOTE, MOST_NOTES, safe
from fedmq_schemas.messages import BlobRef, PersonalStart, PlanKey, TaskMessage

log = logging.getLogger("fedmq.client")

NO_TIME = "there is no time left"

OnFault = Callable[[str, PlanKey, str, str], None]
"""Receives the name of the event, the plan, the reason and the traceback of an error at this site, in full."""


class TaskRunner:
    """The performers of one client. `report` receives a task's events on any thread. Clients may share a `pool`.

    - `detail`: what is reported of an error, and so may leave the site.
    - `on_fault`: receives each error in full, for the site's own log.
    - `output_log`: the file for what the trainer prints in a worker process, or None.
    - `stalls`: notes transfers that are repeated.
    """

    def __init__(
        self,
        client: Client,
        package: Path,
        pool: Pool,
        store: Store,
        scheduler: Scheduler,
        models: Models,
        *,
        package_sha256: str,
        report: Callable[[CoreEvent], None],
        output_log: Path | None = None,
        detail: ErrorDetail = "full",
        on_fault: OnFault | None = None,
        stalls: Stalls | None = None,
    ) -> None:
        self.client = client
        self._detail = detail
        self._on_fault = on_fault
        self._package = package
        self._package_sha256 = package_sha256
        self._pool = pool
        self._store = store
        self._scheduler = scheduler
        self._models = models
        self._jobs: dict[TaskKey, str] = {}
        self._count = itertools.count()
        self._logged: set[str] = set()
        self._unscored = ""
        """The newest session for which the client has reported that its trainer has no `validate`."""
        self._report = report
        self._output_log = output_log
        self._stalls = stalls or Stalls(scheduler.wall)

    def performers(self) -> dict[type[Any], Callable[[Any], Any]]:
        """Returns the performer of each effect of a client."""
        return {
            RunTask: self.run,
            Abandon: self.abandon,
            Measure: self.measure,
            Upload: self.upload,
            Forget: self.forget,
            AssignPart: self.assign_part,
        }

    def assign_part(self, effect: AssignPart) -> None:
        """Makes the part of common data the client's own."""
        if (effect.ordinal, effect.count) != (self.client.ordinal, self.client.count):
            self.client = dataclasses.replace(self.client, ordinal=effect.ordinal, count=effect.count)

    def run(self, effect: RunTask) -> None:
        """Fetches the task's model and submits its job. Declines a task that has no time left."""
        task, ends = effect.task, effect.ends
        key = task_key(task.plan)
        job_id = f"{self.client.name}/{key.session}/{key.round}/{key.action}/{next(self._count)}"
        self._jobs[key] = job_id
        began = self._scheduler.now()
        if began >= ends:
            self._not_begun(task, job_id, NO_TIME, _late(task, "its turn came"))
            return
        if not task.model_url.startswith("http"):
            try:
                found = self._fetch(effect)
            except (FedMQError, OSError) as error:
                self._not_begun(task, job_id, "can't fetch the model", error)
            else:
                self._begin(effect, key, job_id, found, began)
            return

        def fetched(found: Any, error: Exception | None) -> None:
            if self._jobs.get(key) != job_id:
                return
            if error is None:
                self._begin(effect, key, job_id, found, began)
            else:
                self._not_begun(task, job_id, "can't fetch the model", error)

        self._scheduler.submit(lambda: self._fetch(effect), fetched)

    def _fetch(self, effect: RunTask) -> tuple[Blob, Blob | None]:
        with self._noting(RunTask) as on_fault:
            return self._models.fetch(effect.task, effect.ends - self._scheduler.now(), on_fault)

    @contextmanager
    def _noting(self, effect: type[Any]) -> Iterator[Callable[[str], None]]:
        """Yields what notes a fault of a transfer, until the transfer has ended."""
        key = object()

        def on_fault(cause: str) -> None:
            error = Transient(f"a transfer with the blob store is repeated: {cause}", store=STORE)
            self._stalls.retry(key, effect.__name__, error)

        try:
            yield on_fault
        finally:
            self._stalls.end(key)

    def _begin(self, effect: RunTask, key: TaskKey, job_id: str, found: tuple[Blob, Blob | None], began: float) -> None:
        task = effect.task
        if self._scheduler.now() >= effect.ends:
            self._not_begun(task, job_id, NO_TIME, _late(task, "its model was fetched"))
            return
        try:
            self._store.enter(task)
            self._submit(effect, key, job_id, *found, began)
        except OSError as error:
            self._not_begun(task, job_id, "can't write to the client's folder", error)

    def _submit(self, effect: RunTask, key: TaskKey, job_id: str, model: Blob, base: Blob | None, began: float) -> None:
        task, now = effect.task, self._scheduler.now()
        seconds = {"fetch": now - began}
        personal = None
        if task.personal == "continue" and "train" in self.client.tasks:
            personal = self._store.start(task, self._package_sha256, base)
        job = Job(
            id=job_id,
            client=self.client,
            package=self._package,
            kind=task.plan.action,
            session=key.session,
            round=key.round,
            rounds=task.rounds,
            random_seed=task.seed,
            timeout=effect.ends - now,
            waited=max(0.0, began - (effect.ends - task.timeout)),
            config=task.config,
            model=model,
            base=base,
            update=task.bounds.model_dump(),
            validate=task.validate_model and "validate" in self.client.tasks,
            state=self._store.state(key),
            output=self._store.begin(key) if key.action == "train" else None,
            origin=origin_of(task, self._package_sha256) if key.action == "train" else {},
            log=self._output_log,
        )
        scores: operations.ModelScores | None = None

        def validated(found: Validated) -> None:
            nonlocal scores
            scores = self._validated(task, found)

        self._pool.submit(
            job,
            validated,
            lambda _, fraction, metrics, place: self._report(
                operations.ProgressReported(key, fraction, metrics, "" if self._detail == "class" else place)
            ),
            lambda result: self._done(task, key, result, seconds, personal, scores),
        )

    def _validated(self, task: TaskMessage, validated: Validated) -> operations.ModelScores | None:
        """Reports a validation before training; of a trainer without `validate` once a session, and then returns None."""
        if validated.abstained and validated.reason == NO_VALIDATE:
            reported, self._unscored = self._unscored, task.plan.session
            if reported == self._unscored:
                return None
        if validated.reason and not validated.abstained:
            self._note_fault("model.validated", task, validated.reason, validated.traceback)
        sent = published(validated, self._detail)
        scores = operations.ModelScores(validated.examples, validated.metrics, sent.notes, sent.reason, sent.traceback)
        self._report(operations.ModelValidated(task, scores, validated.abstained))
        self._log(task_key(task.plan), validated.notes)
        return scores

    def _done(
        self,
        task: TaskMessage,
        key: TaskKey,
        result: Result,
        seconds: dict[str, float],
        personal: PersonalStart | None,
        scores: operations.ModelScores | None,
    ) -> None:
        if self._jobs.get(key) != result.job:
            return
        del self._jobs[key]
        if result.outcome == "cancelled":  # and not by `abandon`, which forgets the job
            reason = "the trainer raised Cancelled although its task was not cancelled"
            self._note_fault("update.failed", task, reason, "")
            self._report(operations.TaskFinished(TaskResult(key, "failed", reason=reason, seconds=seconds)))
            return
        if result.outcome == "failed":
            name = "update.failed" if key.action == "train" else "model.validated"
            self._note_fault(name, task, result.reason, result.traceback)
        sent = published(result, self._detail)
        notes, logged = sent.notes, result.notes
        if personal is not None and personal.reason:
            anew = safe(f"its private state began anew: {personal.reason}")[:LONGEST_NOTE]
            notes, logged = (*notes[: MOST_NOTES - 1], anew), (*logged, anew)
        finished = TaskResult(
            key=key,
            outcome=result.outcome,
            examples=result.examples or 0,
            metrics=result.metrics,
            update=result.update,
            reason=sent.reason,
            traceback=sent.traceback,
            seconds={**seconds, **result.seconds},
            notes=notes,
            personal=personal,
            scores=scores,
        )
        self._log(key, logged)
        if key.action == "train" and result.outcome == "done":
            self._keep(finished, result)
        if key.action == "validate" and result.outcome == "done":
            found = operations.ModelScores(result.examples, result.metrics, sent.notes)
            self._report(operations.ModelValidated(task, found))
        self._report(operations.TaskFinished(finished))

    def _keep(self, finished: TaskResult, result: Result) -> None:
        try:
            self._store.keep(finished, result.state)
        except OSError as error:  # the update is uploaded all the same; only a restart before that trains it again
            extra = {"client": self.client.name, "session": finished.key.session, "round": finished.key.round}
            log.warning("a finished update can't be kept for a restart", extra={**extra, "reason": str(error)})

    def _log(self, key: TaskKey, notes: Sequence[str]) -> None:
        """Logs each note once."""
        for note in notes:
            if note not in self._logged:
                self._logged.add(note)
                extra = {"client": self.client.name, "session": key.session, "round": key.round, "reason": note}
                log.info("task noted", extra=extra)

    def _not_begun(self, task: TaskMessage, job_id: str, what: str, error: Exception) -> None:
        key = task_key(task.plan)
        if self._jobs.get(key) == job_id:
            del self._jobs[key]
            if isinstance(error, OSError):  # without the path, which is the site's
                error = Transient(error.strerror or type(error).__name__)
            text = error.reason if isinstance(error, FedMQError) else repr(error)
            extra = {"client": self.client.name, "session": key.session, "round": key.round}
            log.warning("task failed", extra={**extra, "reason": f"{what}: {text}"})
            # FedMQ's own error names the store and its fault, and nothing that the site's data hold.
            is_plain = self._detail == "full" or isinstance(error, FedMQError)
            sent = text if is_plain else type(error).__name__
            self._report(operations.TaskFinished(TaskResult(key, "failed", reason=f"{what}: {sent}")))

    def _note_fault(self, name: str, task: TaskMessage, reason: str, traceback: str) -> None:
        if self._on_fault is not None:
            self._on_fault(name, task.plan, reason, traceback)

    def abandon(self, effect: Abandon) -> None:
        """Cancels the task's job. Nothing more is reported about it."""
        job_id = self._jobs.pop(effect.key, None)
        if job_id is not None:
            self._pool.cancel(job_id)

    def measure(self, effect: Measure) -> Measured:
        """Reads the update. Raises NotFound if its file is gone."""
        assert effect.result.update is not None
        with opened(effect.result.update) as (file, size):
            return Measured(size, hashlib.file_digest(file, "sha256").hexdigest())

    def upload(self, effect: Upload) -> BlobRef:
        """Uploads the update. Raises Refused if the time is up, so that the client requests a fresh URL."""
        update, headers = effect.result.update, effect.ticket.headers if effect.ticket is not None else {}
        assert update is not None
        try:
            with self._noting(Upload) as on_fault:
                timeout = max(1.0, effect.task.timeout)
                return transfer.put(effect.key, effect.url, update, headers, timeout=timeout, on_fault=on_fault)
        except Transient as error:
            raise Refused(f"the upload did not succeed in time: {error.reason}") from error
        except FedMQError as error:
            log.warning("upload refused", extra={"client": self.client.name, "reason": error.reason})
            raise

    def forget(self, effect: Forget) -> None:
        """Deletes what is kept for rounds that are over, and files the state of a session that is over."""
        self._store.forget(effect.session, effect.before_round)


def _late(task: TaskMessage, when: str) -> Refused:
    """Returns why a task is not begun. `when`: what happened after its deadline."""
    setting = "timeout" if task.plan.action == "train" else "validation_timeout"
    return Refused(
        f"the deadline of this {task.plan.action} task passed before {when}; if trainers are only slow, "
        f"raise `{setting}`"
    )
