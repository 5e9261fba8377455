"""What a session begins with: a model from elsewhere, or one that the package's trainer makes."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Sequence
from pathlib import Path

from fedmq.blobs.base import Blobs
from fedmq.blobs.files import FileBlobs
from fedmq.errors import ConfigError, FedMQError
from fedmq.model_files.formats import ModelFile
from fedmq.records.base import Records
from fedmq.records.sqlite_reading import SqliteReader
from fedmq_client.job.job import Job, Result
from fedmq_client.job.load_trainer import model_file
from fedmq_client.packages.package import Package
from fedmq_client.pool.awaited import AwaitedJobs
from fedmq_sandbox.chain import recorded_sessions
from fedmq_sandbox.options import SandboxOptions, shared_data
from fedmq_sandbox.rounds import model_of, read_model
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.policy import Policy

EVALUATOR = "evaluator"
RECORDS = "records.db"
INIT_TIMEOUT = 600.0
LOOK_AGAIN = 0.1


class Interrupted(Exception):
    """`Sandbox.interrupt` was called before the session ended. A sandbox with the same `state_dir` resumes it."""


def stored_seed(wanted: str, package: Package, state_dir: Path | None, records: Records, blobs: Blobs) -> str:
    """Returns the id of the model that `wanted` names. Stores it if it comes from elsewhere.

    `wanted` is the id of a model that is stored here, a model file, a run's folder (its best model), or FOLDER:last,
    FOLDER:best or FOLDER:ID. Raises ConfigError, and NotFound or Gone for a run without this model.
    """
    if wanted and "/" not in wanted and (records.get(tables.MODELS, wanted) or _is_stored(wanted, blobs)):
        return wanted
    folder, colon, which = wanted.rpartition(":")
    if Path(wanted, RECORDS).is_file():
        found = _model_of_run(Path(wanted), "best")
    elif colon and Path(folder, RECORDS).is_file():
        found = _model_of_run(Path(folder), which)
    elif Path(wanted).is_file():
        found = model_file(Path(wanted), package)
    else:
        where = "it has" if state_dir is None else f"{state_dir} has"
        raise ConfigError(
            f"seed {wanted!r} is no model that {where}, no model file, and no folder of a run: give the path of a file that "
            "`fedmq seed` reads, or the --state-dir of a run"
        )
    return _stored(found.blob(), blobs)


def _is_stored(model: str, blobs: Blobs) -> bool:
    try:
        return bool(blobs.stat(keys.model_blob(model)))
    except FedMQError:  # also a text that can't be a key
        return False


def _model_of_run(folder: Path, which: str) -> ModelFile:
    records = SqliteReader(folder / RECORDS)
    document = model_of(records, recorded_sessions(folder, records), which, None, None)
    return read_model(FileBlobs(folder / "blobs", read_only=True), document)


def _stored(data: bytes, blobs: Blobs) -> str:
    name = keys.seed_model(hashlib.sha256(data).hexdigest())
    blobs.put(keys.model_blob(name), data)
    return name


def make_seed(
    options: SandboxOptions,
    policy: Policy,
    random_seed: int,
    jobs: AwaitedJobs,
    blobs: Blobs,
    interrupted: threading.Event,
) -> tuple[str, Sequence[str]]:
    """Stores the model that the trainer's `init` makes, and returns its id, with notes on it.

    Raises ConfigError with the traceback if `init` made no model, and Interrupted.
    """
    job = Job(
        id="init",
        client=options.client("init", ("train", "validate"), 0, random_seed),
        package=options.package,
        kind="init",
        config=policy.train,
        timeout=INIT_TIMEOUT,
        random_seed=random_seed,
        log=options.output_log("init"),
    )
    result = _first(jobs.submit(job), interrupted)
    if result.outcome != "done" or result.update is None:
        raise ConfigError(f"{result.reason}\n{result.traceback}".rstrip())
    data = result.update if isinstance(result.update, bytes) else result.update.read_bytes()
    return _stored(data, blobs), result.notes


def begin(
    options: SandboxOptions,
    random_seed: int,
    jobs: AwaitedJobs,
    policy: Policy,
    blobs: Blobs,
    interrupted: threading.Event,
    is_seed_missing: bool,
    is_new: bool,
) -> tuple[str | None, str, Sequence[str]]:
    """Returns the id of the first model, why the evaluator gives no score, and notes.

    - The first model is the policy's, or one that the package's trainer makes; None unless `is_seed_missing`.
    - The second text, with its remedy, is empty if the evaluator scores, if there is none, or if that is not known.
    - The notes are on the first model that the trainer makes, and on data that all clients share.
    - If the session `is_new` and the policy names its first model, that is compared with the network of a shipped trainer.

    Raises ConfigError if they differ in names or shapes, and otherwise as `make_seed` does.
    """
    if options.evaluator:  # asked first: while one worker makes the model, another one answers
        client = options.client(EVALUATOR, ("validate",), 0, random_seed)
        log = options.output_log(EVALUATOR)
        job = Job("describe", client, options.package, "describe", timeout=INIT_TIMEOUT, log=log)
        answers = jobs.submit(job)
    seed = policy.seed if is_seed_missing else None
    notes: Sequence[str] = ()
    if policy.seed is None and is_seed_missing:
        seed, notes = make_seed(options, policy, random_seed, jobs, blobs, interrupted)
    elif policy.seed is not None and is_new:
        check_fit(options, policy.seed, random_seed, jobs, blobs, interrupted)
    untested = ""
    if options.evaluator:
        answer = _first(answers, interrupted)
        untested = answer.reason if answer.outcome == "done" else ""
    return seed, untested, (*shared_data(options), *notes)


def check_fit(
    options: SandboxOptions, seed: str, random_seed: int, jobs: AwaitedJobs, blobs: Blobs, interrupted: threading.Event
) -> None:
    """Raises ConfigError if a shipped trainer can't use the model `seed`: it has other names or shapes than its network.

    A model that is not stored is not compared: the session reports it. Trainers of the user's own may take any names.
    """
    client = options.client("init", ("train", "validate"), 0, random_seed)
    try:
        model = blobs.get(keys.model_blob(seed))
    except FedMQError:
        return
    job = Job("compare", client, options.package, "compare", timeout=INIT_TIMEOUT, model=model)
    result = _first(jobs.submit(job), interrupted)
    if result.outcome == "done" and result.reason:
        raise ConfigError(
            f"the seed does not fit the package {options.package}: {result.reason}. Leave out the seed, so that init makes "
            "the first model, or give a model with these names and shapes"
        )


def _first(results: queue.SimpleQueue[Result], interrupted: threading.Event) -> Result:
    while not interrupted.is_set():
        try:
            return results.get(timeout=LOOK_AGAIN)
        except queue.Empty:
            continue
    raise Interrupted
