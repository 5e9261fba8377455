"""Where trainers run: the interface between the client app and its workers.

`InlinePool` (inline.py) runs a job in the caller's thread, for tests and simulation. `ProcessPool`
(processes.py) runs it in a warm worker process, which a broken trainer can't get out of.
"""

from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, Protocol

from fedmq.value import value
from fedmq_client.trainer import Client

JobKind = Literal["train", "validate", "init"]
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
    seed: int = 0
    """0 <= seed < 2**63; seeds the global random generators too."""
    timeout: float = 600.0
    """Seconds from `submit`, waiting for a free worker included."""
    config: Mapping[str, Any] = field(default_factory=dict)
    model: Blob | None = None
    """A safetensors model, read-only; None only for init."""
    base: Blob | None = None
    """Tensors that belong to the model and don't travel with it (`whole`), or None."""
    update: Mapping[str, Any] = field(default_factory=dict)
    """The policy's section `update` (`UpdateBounds`); an absent key has its default."""
    validate: bool = False
    """For train: validate the received model first."""
    state: Blob | None = None
    """`task.state`, and local tensors, as the last finished training of this client left them, or None."""
    output: Path | None = None
    """Where the update is written, by atomic rename, with the state beside it under the suffix
    `.state`; None: both come back as bytes."""


@value
class Validated:
    """The validation of the received model, told before training starts."""

    job: str
    examples: int | None
    metrics: dict[str, Any]
    seconds: float


@value
class Result:
    """How a job ended.

    - done: train has `update` (the delta, in the model's names and roles) and `state` (None if
      `task.state` is empty); validate has neither, and `examples` None where it did not say how many;
      init has the whole model in `update`.
    - abstained: the trainer returned None.
    - failed: `reason` is one line; `traceback` is the user's, with the last lines of output.
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
    """By step: validate, train, init."""


OnValidation = Callable[[Validated], None]
OnProgress = Callable[[str, float, dict[str, Any]], None]
OnDone = Callable[[Result], None]


class Pool(Protocol):
    """Runs jobs. Callbacks come on a thread of the pool's choice, in order, and must not block."""

    def submit(self, job: Job, on_validation: OnValidation, on_progress: OnProgress, on_done: OnDone) -> None:
        """Run the job when a worker is free.

        - `on_validation` is called at most once, before training starts, when `job.validate` is
          set and the trainer validates; for a job of kind validate only `on_done` is called.
        - `on_progress(job id, fraction, metrics)` is called at most once a second.
        - `on_done` is called exactly once, last, whatever happens, unless the pool is closed first.
        - Never raises for what a trainer does; raises ConfigError if the pool is closed.
        """
        ...

    def cancel(self, job_id: str) -> None:
        """Ask the job to end as cancelled; one that has ended, or is unknown, is left alone."""
        ...

    def close(self, timeout: float = 10.0) -> None:
        """End all workers; jobs still open get no `on_done`. May be called twice."""
        ...
