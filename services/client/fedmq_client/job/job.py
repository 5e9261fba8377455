"""The port between the client's role and the place where its trainers run: `Job`, `Result` and `Pool`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, Protocol

from fedmq.value import value
from fedmq_client.trainer import Client

JobKind = Literal["train", "validate", "init", "describe", "compare"]
JobOutcome = Literal["done", "abstained", "failed", "cancelled"]
Blob = bytes | Path


@value
class Job:
    """One call of a trainer."""

    id: str
    """Unique among the jobs of a pool."""
    client: Client
    package: Path
    """The folder with `fedn.yaml`."""
    kind: JobKind
    session: str = ""
    round: int = 1
    rounds: int = 1
    random_seed: int = 0
    """From 0 up to 2**63 - 1. Seeds the global random generators too."""
    timeout: float = 600.0
    """Seconds from `submit`, waiting for a free worker included."""
    waited: float = 0.0
    """Seconds that its task waited at its client before `submit`, behind other tasks. They count against its deadline."""
    config: Mapping[str, Any] = field(default_factory=dict)
    model: Blob | None = None
    """A safetensors model, read-only; None only for init and describe."""
    base: Blob | None = None
    """Tensors that belong to the model and don't travel with it (see `partial_model`), or None."""
    update: Mapping[str, Any] = field(default_factory=dict)
    """The policy's section `update` (`UpdateBounds`); an absent key has its default."""
    validate: bool = False
    """Whether a train job validates the received model first."""
    state: Blob | None = None
    """`task.state` and local tensors after the last finished training of this client, or None."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Written to the metadata of the state that the training leaves: session, round, package and model."""
    output: Path | None = None
    """The file for the update, which is written by atomic rename. The state is beside it, with the suffix `.state`. With
    None both are returned as bytes."""
    log: Path | None = None
    """The file to which worker processes append what the trainer prints, writes to standard error or logs, or None."""


@value
class Validated:
    """The validation of the received model, reported before training starts."""

    job: str
    examples: int | None
    metrics: dict[str, Any]
    seconds: float
    notes: Sequence[str] = ()
    """What the metrics lack, as in `Result`."""
    reason: str = ""
    """Why there are no metrics, with the traceback of a validation that failed. Training begins all the same."""
    traceback: str = ""
    plain: str = ""
    """As in `Result`, with the next two."""
    frames: str = ""
    plain_notes: Sequence[str] = ()
    abstained: bool = False
    """Whether nothing failed: `validate` returned None or used no examples, or the trainer has none."""


@value
class Result:
    """How a job ended.

    - done: a train job has `update` (the delta, in the model's names and roles) and `state` (None if `task.state` is
      empty). A validate job has neither; its `examples` is None if the trainer did not count them, and never 0. An init
      job has the whole model in `update`. A describe job has in `metrics` whether an evaluator may score (`test_set`), with
      the reason why not in `reason`, and whether the trainer has `validate` (`validates`). A compare job has in `reason` how
      `model` differs from the one that a shipped trainer's `init` makes; empty if it fits. Trainers of the user's own are
      not asked, as their `train` may take any names.
    - abstained: the trainer returned None or used no examples, or an evaluator has no test set, as `reason` says.
    - failed: `reason` is one line; `traceback` is the user's, followed by the last lines of output.
    - cancelled: by `Pool.cancel`, or because the trainer raised Cancelled.
    """

    job: str
    outcome: JobOutcome
    examples: int | None = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    update: Blob | None = None
    state: Blob | None = None
    reason: str = ""
    traceback: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    """The duration of each step: validate, train, init."""
    notes: Sequence[str] = ()
    """What failed without failing the job, such as a metric that was not kept. `NoteCollector` bounds number and length."""
    plain: str = ""
    """The reason without the text of an exception and without values; empty if there is no such sentence."""
    frames: str = ""
    """The user's frames of the traceback, each as `trainer.py:18 in train`: no text, no value, no line of source code."""
    plain_notes: Sequence[str] = ()
    """The notes without values."""


OnValidation = Callable[[Validated], None]
OnProgress = Callable[[str, float, dict[str, Any], str], None]
OnDone = Callable[[Result], None]


class Pool(Protocol):
    """Runs jobs. Callbacks of a job are called in order, on a thread of the pool's choice, and must not block."""

    def submit(self, job: Job, on_validation: OnValidation, on_progress: OnProgress, on_done: OnDone) -> None:
        """Runs the job when a worker is free.

        - `on_validation` is called at most once, before training starts, if `job.validate` is set: also with the reason
          why there are no metrics. For a job of kind validate only `on_done` is called.
        - `on_progress(job id, fraction, metrics, place)` is called at most once a second, and once shortly before the
          deadline with the place in its code where the trainer is, such as `trainer.py:18 in train`, or with `the queue for
          a worker, behind client1` if the job has not begun; after `locate` too; else with "".
        - `on_done` is called exactly once, last, whatever happens, unless the pool is closed first.
        - Never raises for what a trainer does; raises ConfigError if the pool is closed.
        """
        ...

    def cancel(self, job_id: str) -> None:
        """Asks the job to end as cancelled. Ignores a job that has ended or is unknown."""
        ...

    def locate(self, job_id: str) -> None:
        """Makes `on_progress` report the job's place soon, if it can. Ignores a job that has ended or is unknown."""
        ...

    def close(self, timeout: float = 10.0) -> None:
        """Ends all workers. `on_done` is not called for jobs that are still open. May be called twice."""
        ...
