"""The trainer API: everything that a user's training code uses of FedMQ.

A trainer is a class (or a module with functions of the same names, without `self`):

    class MyTrainer:
        def __init__(self, client): ...                      # once per worker process: load data
        def train(self, weights, task): ...                  # -> weights, examples, metrics
        def validate(self, weights, task): ...               # -> examples, metrics   (optional)
        def init(self): ...                                  # -> weights             (optional)
        def roles(self): ...                                 # -> {name: role}        (optional)
        def meta(self): ...                                  # -> {key: JSON value}   (optional)
        test_set = True                                      # evaluators score a test set (optional)

- `weights` is a dict of numpy arrays: the trainer's own copy, which it may change in place. The weights that it returns
  must have the same names and shapes. They are float32 in each round where `init` or the seed has float16 or bfloat16.
- `examples` is an int >= 0, the number of examples used. With 0, `train` abstains and `validate` gives no score.
  `validate` may return None if the number is not known; its metrics are then averaged equally. `metrics` are named
  numbers; strings and lists are recorded too, but never averaged.
- `validate` scores the client's own data, on which it may have trained: its metrics are shown as those of clients' own
  data. An evaluator (`client.evaluator`) validates only, on a test set. It does so only if the trainer states that it
  gives evaluators one, by the attribute `test_set = True`; else the evaluator abstains, and no score is called a test
  score.
- `roles` and `meta` describe the weights of `init`. They are kept in the metadata of every model of the session.
- A role says how a tensor is aggregated. `trainable`: by the mean and the server optimizer; the default of floats.
  `statistic`: by the mean alone, such as means and variances of batch norm. `counter`: by the mean, rounded; the default of
  single integers. `constant`: equal everywhere; the default of bools. `opaque`: not averaged, such as a tree model in
  bytes (uint8, padded to one length); a policy with `clients_requested = 1` trains it at one client in each round. Integers
  of more than one number need a stated role.
- The code runs as in a Python that was started in the package's folder: files and modules beside it are found by name. A
  trainer may change its process, such as the current folder, environment variables or numpy's settings. What running the
  file and `__init__` change holds in each call; what a call changes ends with its task. In a sandbox without workers only
  the current folder, the environment and `sys.path` are restored, as the process is also its host's.
- `None` from `train` or `validate` means: abstain.
- An exception fails this task only. The trainer is built anew for the next one. If `validate` raises before a training,
  the training goes on, with a trainer that is built anew.
- A metric that can't be sent, a bad `task.report` and a `task.state` that can't be kept are left out. The result has a
  note that says so. A NaN or infinite metric is recorded, with a note, but is in no mean.
- Keep nothing from one task to the next, except data and what is derived from it. The state of the learning belongs in
  `task.state`, which survives restarts. It never leaves the client. The site keeps it, and local tensors, beyond the end
  of the session; a session begins with them if its policy says `personal = "continue"`, else with none.
- Python's and numpy's global random generators are seeded from `task.seed` before each call.
- Clients of a sandbox share worker processes, and with them a module's global names: a global list that each task appends to
  holds what other clients appended. Deployed clients have a process each. Keep what belongs to one client in `self`, or in
  `task.state` if it is the learning's.
"""

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike

from fedmq.tensors import Weights
from fedmq_client.partition import Indices, partition

TrainerMetrics = Mapping[str, Any]
Form = Literal["trainer", "commands"]

NUMBER = "{n}"
"""Stands for the client's number in a variable."""
REPORT_EVERY = 1.0
"""Seconds between two reports that are sent; those in between are dropped."""


class Cancelled(Exception):
    """Raised by `Task.check` when the task's result is no longer wanted. Let it pass."""


@dataclass(frozen=True, slots=True)
class Client:
    """The client that a trainer works for."""

    name: str
    """Unique in the alliance."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Free text about the site, given by its operator."""
    data: Path | None = None
    """The site's own data, from `FEDN_DATA_PATH`; None if it is not set. In a sandbox and `fedmq check`, `{n}` in it is this
    client's number, from 1, and an evaluator's name."""
    ordinal: int = 0
    """This client's number among `count`, from 0; stable for a name while it is attached."""
    count: int = 1
    """The number of parts that a common data set is split into."""
    device: str = "auto"
    """`FEDN_CLIENT_DEVICE`: auto, cpu, or numbers as in 0,1. In force before a trainer starts."""
    state_dir: Path = Path(".")
    """A folder of this client's own: caches only, as training must not depend on it."""
    tasks: tuple[str, ...] = ("train", "validate")
    """The kinds of tasks that this client runs."""
    random_seed: int = 0
    """The alliance's, for splits and first weights. Training uses `task.seed`."""
    dirichlet: float | None = None
    """Label skew of `part`; None is IID."""
    form: Form | None = None
    """Which form of the package to use. None: its trainer if it names one, else its commands."""
    python_env: bool = True
    """Whether commands run in the environment that the package's `python_env` describes."""

    @property
    def evaluator(self) -> bool:
        """True for a client that only validates. It scores the common test set, if the trainer states one (`test_set`)."""
        return self.tasks == ("validate",)

    def part(self, labels: ArrayLike) -> Indices:
        """Returns the indices of this client's part of a data set that every client holds.

        `labels`: one per example (n,) or (n, 1), numbers or text, or one-hot (n, classes). Parts are disjoint, complete
        over the ordinals and never empty. They depend on `random_seed`, `count` and `dirichlet` only. Raises ConfigError if
        there are fewer examples than parts, or, with `dirichlet`, if the labels are no classes.
        """
        values = np.ascontiguousarray(labels)
        if values.dtype.hasobject:  # such as text in a column of a DataFrame; has no bytes by which to cache the split
            parts = partition(values, self.count, self.random_seed, self.dirichlet)
            return parts[self.ordinal % self.count]
        parts = _parts(
            values.tobytes(),
            values.dtype.str,
            values.shape,
            self.count,
            self.random_seed,
            self.dirichlet,
        )
        return parts[self.ordinal % self.count].copy()


def numbered(text: str, client: Client) -> str:
    """Returns a text with the client's number, from 1, in place of `{n}`; an evaluator's number is its name."""
    return text.replace(NUMBER, client.name if client.evaluator else str(client.ordinal + 1))


def with_own_data(client: Client) -> Client:
    """Returns the client with its number in place of `{n}` in the path of its data."""
    return client if client.data is None else replace(client, data=Path(numbered(str(client.data), client)))


@lru_cache(maxsize=2)
def _parts(
    data: bytes,
    dtype: str,
    shape: tuple[int, ...],
    count: int,
    random_seed: int,
    dirichlet: float | None,
) -> list[Indices]:
    """Returns the split of one data set. It is cached, so that many clients of a process compute it once."""
    labels = np.frombuffer(data, dtype=dtype).reshape(shape)
    return partition(labels, count, random_seed, dirichlet)


class Task:
    """One piece of work: train on, or validate, the weights of one round."""

    def __init__(
        self,
        *,
        client: Client,
        session: str = "",
        round: int = 1,
        rounds: int = 1,
        seed: int = 0,
        timeout: float = float("inf"),
        config: Mapping[str, Any] | None = None,
        state: Weights | None = None,
        meta: Mapping[str, Any] | None = None,
        frozen: Collection[str] = (),
        progress: Callable[[float, dict[str, Any]], None] | None = None,
        note: Callable[[str], None] | None = None,
        is_cancelled: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        """The client that runs the task."""
        self.session = session
        """Id of the session."""
        self.round = round
        """From 1."""
        self.rounds = rounds
        """Number of rounds of the session."""
        self.seed = seed
        """Derives from session, round and client alone; 0 <= seed < 2**63."""
        self.config = dict(config or {})
        """The user's own keys of the session's configuration."""
        self.state: Weights = dict(state or {})
        """Named arrays that this client keeps from round to round. Changes by `validate` are lost. Empty in the first round,
        unless the session continues from an earlier one (`personal = "continue"`)."""
        self.meta = dict(meta or {})
        """The model's metadata: its `roles`, and the keys of `meta` or of the seed's file."""
        self.frozen = frozenset(frozen)
        """Names of the tensors that the policy freezes: what `train` makes of them is not used."""
        self._progress = progress
        self._note = note
        self._is_cancelled = is_cancelled
        self._clock = clock
        self._ends = clock() + timeout
        self._next_report = -float("inf")

    @property
    def deadline(self) -> float:
        """Seconds left, now; negative when it has passed."""
        return self._ends - self._clock()

    @property
    def cancelled(self) -> bool:
        """True when the result is no longer wanted."""
        return self._is_cancelled is not None and self._is_cancelled()

    def check(self) -> None:
        """Raises Cancelled if the task is cancelled. Call it once per batch."""
        if self.cancelled:
            raise Cancelled

    def note(self, text: str) -> None:
        """Adds a note to the task's result, which the console and the client's log show once: at most 10 are kept."""
        if self._note is not None:
            self._note(text)

    def report(self, fraction: float, **metrics: Any) -> None:
        """Reports the fraction of the task that is done, 0 to 1. At most one report a second is sent, so it is cheap.

        A fraction that is no number, or a metric that can't be sent, is left out with a note on the task's result.
        """
        if self._progress is None:
            return
        try:
            done = float(fraction)
        except (TypeError, ValueError, OverflowError):
            done = float("nan")
        if math.isnan(done):
            kind = type(fraction).__name__
            self.note(f"task.report got no number ({kind}) as its fraction: give a number from 0 to 1")
            return
        now = self._clock()
        if now >= self._next_report:
            self._next_report = now + REPORT_EVERY
            self._progress(min(max(done, 0.0), 1.0), metrics)


class Trainer(Protocol):
    """A trainer for type checkers. Only `train` is required; the module's docstring lists the other methods."""

    def train(self, weights: Weights, task: Task) -> tuple[Weights, int, TrainerMetrics] | None:
        """Returns the trained weights, the number of examples and metrics, or None to abstain."""
        ...
