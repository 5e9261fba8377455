"""A package outside of an alliance: made from a template, its first model, and a trial as in an alliance."""

from __future__ import annotations

import logging
import queue
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedmq import aggregation
from fedmq.errors import ConfigError, InvalidUpdate
from fedmq.model_files.naming import in_order
from fedmq.process.settings import ClientSettings
from fedmq.reasons import OUTPUT_HEADING
from fedmq.tensors import TensorRole, check_roles_stated, spec_of, tensorblob
from fedmq.tensors.opaque import why_one_client
from fedmq.tensors.tensorblob import Source
from fedmq_cli.awaiting import QUIET_SECONDS, awaited_jobs_text
from fedmq_cli.interruption import calling
from fedmq_cli.output import say
from fedmq_client import frameworks
from fedmq_client.job.job import Job, Result, Validated
from fedmq_client.job.load_trainer import keras_model, model_file
from fedmq_client.packages.package import MANIFEST, Package, load
from fedmq_client.pool.awaited import AwaitedJobs
from fedmq_client.pool.output import output_log
from fedmq_client.pool.processes import ProcessPool
from fedmq_client.trainer import Client, with_own_data
from fedmq_schemas.policy import DEFAULT_RULE, weight_of

STATISTIC = re.compile(r"(^|[./])(running_(mean|var)|moving_(mean|variance)|num_batches_tracked)$")
"""Names that frameworks give to statistics and counters of batch norm."""
TEMPLATES = Path(__file__).parent / "templates"
SECONDS = 600.0

RunJob = Callable[[Job], tuple[Result, Validated | None]]


def templates() -> dict[str, Path]:
    """Returns the folder of each framework's template: FedMQ's, and `template` beside the trainer of a registered one."""
    found = {folder.name: folder for folder in sorted(TEMPLATES.iterdir()) if (folder / MANIFEST).is_file()}
    for name, entry in frameworks.registered().items():
        spec = find_spec(entry.module.partition(".")[0])
        if name not in found and spec is not None and spec.origin is not None:
            found[name] = Path(spec.origin).parent / "template"
    return found


def make_package(folder: Path, framework: str) -> Path:
    """Writes a package with made-up data. Raises ConfigError for an unknown framework or an existing folder."""
    known = templates()
    if framework not in known:
        raise ConfigError(f"unknown framework {framework!r}: there are {', '.join(known)}")
    if folder.exists():
        raise ConfigError(f"{folder} exists already: choose another name")
    shutil.copytree(known[framework], folder / "client", ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "client"


def client_here(name: str, **options: Any) -> Client:
    """Returns a client with the settings of `fedmq run client` here. `options` that are not None take precedence.

    `{n}` in the path of the data is 1, as for the first client of a sandbox.
    """
    settings = ClientSettings.load()
    found: dict[str, Any] = {"data": settings.data_path, "state_dir": Path.cwd()}
    found |= {key: value for key, value in options.items() if value is not None}
    client = Client(name, form=settings.package_form, python_env=settings.package_env, **found)
    return with_own_data(replace(client, data=client.data and client.data.absolute()))


def network_of(package: Path | None) -> Callable[[], Any] | None:
    """Returns what makes the Keras model of a package's trainer, for files without layers. None without a package."""
    return None if package is None else lambda: keras_model(load(package))


def first_model(package: Path, random_seed: int) -> bytes:
    """Returns the model that the trainer's `init` makes in a worker process. Raises ConfigError with the traceback."""
    with _worker() as run:
        return _made(run, load(package), client_here("init", random_seed=random_seed))[0]


def _made(run: RunJob, package: Package, client: Client) -> tuple[bytes, Sequence[str]]:
    """Returns the package's first model, and notes on it."""
    if package.seed is not None:
        return model_file(package.seed, package).blob(), ()
    result, _ = run(Job("init", client, package.folder, "init", random_seed=client.random_seed, timeout=SECONDS))
    if result.outcome != "done" or result.update is None:
        raise ConfigError(f"{result.reason}\n{result.traceback}".rstrip())
    return _bytes(result.update), result.notes


@dataclass(slots=True)
class Trial:
    """What a package did. `problem` is the reason why an alliance could not use it; empty if it could.

    `tensor_list`: name, shape, dtype and role of each tensor. `notes`: what failed beside the weights, such as a metric
    that is not kept, and what of the model may be an oversight. `test_set`: whether the package states one, so that an
    evaluator scores models; `evaluator` is the reason why none would; `unvalidated` why `validated` is None. None and
    empty if the trainer could not be made.
    """

    package: str
    sha256: str
    tensors: int = 0
    tensor_list: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0
    test_set: bool | None = None
    evaluator: str = ""
    validated: dict[str, Any] | None = None
    unvalidated: str = ""
    trained: dict[str, Any] = field(default_factory=dict)
    deterministic: bool | None = None
    state: int = 0
    norm: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problem: str = ""
    traceback: str = ""


def try_package(package: Path, client: Client, config: Mapping[str, Any], model: bytes | None) -> Trial:
    """Runs one validation and two trainings from the same model with the same seed, the second one in a fresh worker.

    What the trainer prints until the end of the first training is shown on standard error. `model` None stands for the
    package's own first model. Raises ConfigError if the package makes none.
    """
    loaded = load(package)
    trial, package = Trial(str(package), loaded.sha256), loaded.folder
    with _shown_output(), _worker() as run:
        began = time.monotonic()
        if model is None:
            model, made_notes = _made(run, loaded, client)
            trial.notes += made_notes
        trial.seconds["init"] = time.monotonic() - began
        weights, meta = tensorblob.decode(model)
        trial.tensors, trial.size = len(weights), len(model)
        _describe(trial, weights, meta)
        job = Job(
            "train", client, package, "train", "check", timeout=SECONDS, config=config, model=model, validate=True
        )
        result, validated = run(job)
        _describe_validation(trial, run(replace(job, id="describe", kind="describe"))[0], validated)
    trial.seconds |= result.seconds
    trial.notes += dict.fromkeys((*(validated.notes if validated else ()), *result.notes))
    if validated is not None and validated.reason:
        if not validated.abstained:
            trial.problem, trial.traceback = validated.reason, _without_output(validated.traceback)
        validated = None
    trial.validated = {"examples": validated.examples, **validated.metrics} if validated else None
    if result.outcome != "done" or result.update is None:
        trial.problem = f"the package {result.outcome}: {result.reason}".rstrip(": ")
        trial.traceback = _without_output(result.traceback)
        return trial
    trial.trained = {"examples": result.examples, **result.metrics}
    trial.state = len(tensorblob.decode(_bytes(result.state))[0]) if result.state is not None else 0
    update = _bytes(result.update)
    with _worker() as run:
        again = run(job)[0].update
    trial.deterministic = again is not None and _bytes(again) == update
    _ask_combiner(trial, weights, meta, update)
    return trial


def _describe(trial: Trial, weights: tensorblob.Weights, meta: Mapping[str, Any]) -> None:
    """Lists the tensors, and notes what of their roles may be an oversight. Raises ConfigError for a missing role."""
    spec = spec_of(weights, meta)
    try:
        check_roles_stated(weights, meta)
    except InvalidUpdate as error:
        raise ConfigError(error.reason) from error
    trial.tensor_list = [
        {"name": name, "shape": list(each.shape), "dtype": str(each.dtype), "role": str(each.role)}
        for name, each in ((name, spec[name]) for name in in_order(spec))
    ]
    odd = [name for name, each in spec.items() if each.role is TensorRole.TRAINABLE and STATISTIC.search(name)]
    if odd:
        more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
        trial.notes.append(
            f"{odd[0]}{more} looks like a statistic and is trainable, so FedAdam and the like would step it: state its role "
            "in the trainer's roles(), which fedmq_client.torch.roles(model) makes for PyTorch"
        )
    if why := why_one_client(spec, None):
        trial.notes.append(why)


def _describe_validation(trial: Trial, described: Result, validated: Validated | None) -> None:
    """Records why there is no score, and what an evaluator does. `described`: the result of a describe job."""
    fails = validated is not None and bool(validated.reason) and not validated.abstained
    if fails:
        trial.unvalidated = "fails; an alliance trains all the same, without its metrics"
    if described.outcome != "done":
        return
    validates = bool(described.metrics["validates"])
    if validated is None or validated.abstained:
        why = "gives no score here: it returned None or used no examples"
        trial.unvalidated = why if validates else "the trainer does not"
    trial.test_set, trial.evaluator = bool(described.metrics["test_set"]), described.reason
    if trial.test_set and (fails or not validates):
        missing = "validate fails" if fails else "trainer does not validate"
        trial.evaluator = f"the package states a test set, and its {missing}"


def _ask_combiner(trial: Trial, weights: tensorblob.Weights, meta: Mapping[str, Any], update: bytes) -> None:
    """Records the norm of the update, or the reason for which a combiner would reject it."""
    spec = spec_of(weights, meta)
    weight = weight_of("examples", trial.trained["examples"])
    rule = aggregation.rule_named(DEFAULT_RULE)(spec, aggregation.initial_exponents(spec, [weight]))
    try:
        trial.norm = rule.fold(Source(update), weight).norm
    except InvalidUpdate as error:
        trial.problem = f"a combiner would reject the update: {error.reason}"


@contextmanager
def _shown_output() -> Iterator[None]:
    """Shows what trainers print, line by line, on standard error."""
    handler, level = logging.StreamHandler(), output_log.level
    output_log.addHandler(handler)
    output_log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        output_log.removeHandler(handler)
        output_log.setLevel(level)


def _without_output(traceback: str) -> str:
    """Returns the traceback without the last lines of output, which are on standard error already."""
    return traceback.partition(OUTPUT_HEADING)[0]


@contextmanager
def _worker() -> Iterator[RunJob]:
    """Yields a function that runs a job in one worker process and returns its result and the validation before it.

    Of a job that takes long, a line on standard error says where it is.
    """
    pool = ProcessPool(1)
    jobs = AwaitedJobs(pool)

    def run(job: Job) -> tuple[Result, Validated | None]:
        validations: list[Validated] = []
        results = jobs.submit(job, validations.append)
        try:
            result = results.get(timeout=QUIET_SECONDS)
        except queue.Empty:
            if text := awaited_jobs_text(jobs.look(), time.time()):  # else the job has just ended
                say(text, err=True)
            result = results.get()
        return result, validations[0] if validations else None

    with closing(pool), calling(pool.close):
        yield run


def _bytes(blob: bytes | Path) -> bytes:
    return blob if isinstance(blob, bytes) else blob.read_bytes()
