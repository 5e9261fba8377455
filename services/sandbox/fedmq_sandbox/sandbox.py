"""The sandbox: a whole alliance in one process, on the in-memory broker, files and SQLite.

The actors are those of a distributed alliance, and a session survives the death of the process for the same reasons: what
is decided is recorded, every role registers again when it starts, and open messages are sent again.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from fedmq.blobs.base import Blobs
from fedmq.blobs.files import FileBlobs
from fedmq.blobs.memory import MemoryBlobs
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.errors import ConfigError
from fedmq.model_files.formats import ModelFile
from fedmq.records.base import Records
from fedmq.records.sqlite import SqliteRecords
from fedmq.scheduler import ThreadScheduler
from fedmq.tensors import Weights
from fedmq_client.packages.commands import prepare
from fedmq_client.packages.package import load
from fedmq_client.pool.awaited import AwaitedJobs
from fedmq_client.pool.inline import InlinePool, RunningJob
from fedmq_client.pool.processes import ProcessPool
from fedmq_client.trainer import Form
from fedmq_sandbox import collector
from fedmq_sandbox.chain import Chain, chain_of, locked
from fedmq_sandbox.changes import WAIT_SECONDS, ChangeCount
from fedmq_sandbox.options import SandboxOptions, check_enough_clients, policy_of, scorers_of
from fedmq_sandbox.rounds import CommittedRound, check_not_failed, follow_rounds, model_of, read_model
from fedmq_sandbox.seed import Interrupted, begin, stored_seed
from fedmq_sandbox.services import ENDINGS, SESSION_EVENTS, OnEvent, Services
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Envelope, Event
from fedmq_schemas.topology import Topology


class Sandbox:
    """An alliance in this process that trains one session. Open it with `with`, and use it inside of the block:

        with Sandbox("examples/mnist/client", clients=5, rounds=5, train={"epochs": 1}) as sandbox:
            for round in sandbox.rounds():
                print(round.number, round.metrics)
            weights = sandbox.weights("best")

    The session runs on a thread of its own: also inside of a running asyncio loop, and without any signal handler. Worker
    processes are started by command and do not import the caller's `__main__`, so a script needs no guard for them.

    Args:
        package: the folder with fedn.yaml.
        policy: the policy as a mapping with the keys of a session file; keywords are set in it: `rounds=5`,
            `train={"epochs": 1}`. The sections `clients` and `package` can only be given in the mapping.
        clients: number of clients that train, each on its part of the data.
        combiners: number of combiners that share the clients.
        workers: number of processes that train; clients share them, and a module's global names. None: one a core. 0: this
            process, where a trainer that hangs can't be stopped; while one works, its package's folder is the current one.
        labels: for each label the values that the clients have in turn: `{"site": ["north", "south"]}`.
        dirichlet: label skew of the parts: smaller is more. None: equal parts.
        state_dir: where everything is kept. The same folder with the same options resumes the session, also after the
            process was killed. With more rounds, a further session trains them from the last model; a server optimizer,
            such as fedadam, begins anew. None: nothing is written, and all is lost at the end of the block.
        fsync: survive the death of the machine too, not only of the process.
        evaluator: whether an evaluator tests each model. It does only with a package that states a test set.
        alliance: name of the alliance.
        device: where trainers compute: auto, cpu, or as the package's framework names devices.
        form: what of the package to use where it has both: trainer or commands.
        python_env: run commands in the environment of python_env.yaml.
        debug: train one client at a time, without time limits, in the thread that calls `run` or `rounds`, so that
            `breakpoint()` in a trainer opens the debugger there. `rounds` then yields once the session has ended.
        on_event: called with each event, on the sandbox's thread.

    Raises ConfigError for wrong options, a wrong policy, a package that can't be used, and a `state_dir` that holds
    another session or is in use.
    """

    def __init__(
        self,
        package: Path | str,
        *,
        policy: Mapping[str, Any] | None = None,
        clients: int = 5,
        combiners: int = 2,
        workers: int | None = None,
        labels: Mapping[str, Sequence[str]] | None = None,
        dirichlet: float | None = None,
        state_dir: Path | str | None = None,
        fsync: bool = False,
        evaluator: bool = True,
        alliance: str = "sandbox",
        device: str = "auto",
        form: Form | None = None,
        python_env: bool = True,
        debug: bool = False,
        on_event: OnEvent | None = None,
        **fields: Any,
    ) -> None:
        self.options = SandboxOptions(
            package=Path(package),
            clients=clients,
            combiners=combiners,
            workers=(0 if debug else os.cpu_count() or 1) if workers is None else workers,
            labels=labels or {},
            dirichlet=dirichlet,
            state_dir=None if state_dir is None else Path(state_dir),
            fsync=fsync,
            evaluator=evaluator,
            alliance=alliance,
            device=device,
            form=form,
            python_env=python_env,
            debug=debug,
        )
        self.policy = policy_of(policy, fields)
        check_enough_clients(self.options, self.policy)
        self.on_event = on_event
        self.scheduler = ThreadScheduler()
        self.broker = MemoryBroker(self.scheduler)
        self.topology = Topology(alliance)
        self.session = ""
        self.untested = ""
        """Why the evaluator gives no score, and the remedy. Known before the first event; empty if it scores."""
        self.notes: Sequence[str] = ()
        """What is to be known of the first model that the package made, and of the data. Known before the first event."""
        self.first_jobs: AwaitedJobs  # before the first round
        self.chain: Chain
        self.blobs: Blobs
        self.records: Records
        self._services: Services
        self._stack: contextlib.ExitStack | None = None
        self._interrupted = threading.Event()
        self._ended: Future[dict[str, Any]] | None = None
        self._thread: threading.Thread | None = None
        self._inline: InlinePool | None = None
        self._is_followed = False
        self._is_used = False
        self._is_serving = False
        self._changes = ChangeCount()

    def __enter__(self) -> Sandbox:
        if self._is_used:
            raise ConfigError("a sandbox is opened once: make another one; the same state_dir resumes the session")
        self._is_used = True
        with contextlib.ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        """Interrupts the session if it has not ended, and waits until its services have stopped."""
        stack, self._stack = self._stack, None
        assert stack is not None
        with stack:
            if self._thread is not None:
                self.interrupt()
                self._thread.join()

    def run(self) -> dict[str, Any]:
        """Runs the session to its end, from where it was, and returns its record. Repeatable.

        Raises Interrupted after `interrupt`, and ConfigError if the package makes no first model.
        """
        ended = self._begin()
        while not ended.done():
            wait([ended], WAIT_SECONDS)
        return ended.result()

    def rounds(self) -> Iterator[CommittedRound]:
        """Runs the session, and yields each of its committed rounds once, in order, those from before a resumption too.

        A round is yielded once evaluator and clients have validated its model, these in the next round, or the session has
        ended. The session continues meanwhile. Several loops each receive all rounds. Leaving a loop early interrupts the
        session. Raises as `run` does, and Refused with the reason if the session fails meanwhile.
        """
        self._is_followed = True
        was_over = self._ended is not None and self._ended.done()
        ended, scorers = self._begin(), scorers_of(self.options, self.policy)
        try:
            yield from follow_rounds(self.records, self.chain.sessions, ended, self._changes, scorers)
            if not was_over:
                check_not_failed(self.records, ended.result(), self.chain.is_over)
        finally:
            if not ended.done():
                self.interrupt()

    def model(
        self, model: str = "last", *, metric: str | None = None, mode: Literal["max", "min"] | None = None
    ) -> dict[str, Any]:
        """Returns the record of a model: the session's `last` or `best` one, or that with this id.

        The best one of round 1 and later is by `metric` and `mode`, or as the policy's `select` says. Raises NotFound.
        """
        self._check_open()
        return model_of(self.records, self.chain.sessions, model, metric, mode)

    def weights(
        self, model: str = "last", *, metric: str | None = None, mode: Literal["max", "min"] | None = None
    ) -> Weights:
        """Returns a model as a dict of numpy arrays, named as in `model`. Raises NotFound, or Gone if it was deleted."""
        return self.read(model, metric=metric, mode=mode).weights

    def read(
        self, model: str = "last", *, metric: str | None = None, mode: Literal["max", "min"] | None = None
    ) -> ModelFile:
        """Returns a model with its metadata, which `fedmq.model_files.formats` writes to a file. Otherwise as `weights`."""
        return read_model(self.blobs, self.model(model, metric=metric, mode=mode))

    def serve(self, ready: Callable[[], None]) -> None:
        """Runs the alliance and whatever sessions it receives, in the caller's thread, until `interrupt`.

        `ready` is called once, when the services have started. A seed is made if there is no model to start from. Raises
        Interrupted if it is interrupted before, and ConfigError if the sandbox has run its session or served already.
        """
        self._check_open()
        if self._ended is not None or self._is_serving:
            raise ConfigError(
                "this sandbox has started its services already, in run, rounds or serve: open another Sandbox for serve"
            )
        self._is_serving = True
        self._prepare(is_seed_missing=next(self.blobs.list(keys.ALL_MODELS), None) is None)
        self._services.start(self._receive, "event.#" if self.on_event else SESSION_EVENTS)
        self.scheduler.post(ready)
        self.scheduler.run()
        self._services.stop(self._interrupted.is_set)

    def interrupt(self) -> None:
        """Makes `run`, `rounds` or `serve` end soon, also one that has not begun. For any thread; idempotent."""
        self._interrupted.set()
        self.scheduler.post(self.scheduler.stop)

    def running(self, frame: FrameType | None = None) -> RunningJob | None:
        """Returns the job of a trainer that runs in this process: None without one, and with `workers`.

        For any thread, and for signal handlers, which may give the `frame` of the trainer's thread.
        """
        return None if self._inline is None else self._inline.running(frame)

    def _open(self, stack: contextlib.ExitStack) -> None:
        options = self.options
        package = load(options.package)
        prepare(package, options.form, options.python_env)
        if self.policy.package not in (None, package.sha256):
            raise ConfigError(
                f"the policy wants the package {self.policy.package}, and {options.package} is {package.sha256}: no client "
                "could take part"
            )
        stack.enter_context(collector.slowed_down())
        stack.callback(self.scheduler.close)
        if options.state_dir is None:
            self.blobs, self.records = MemoryBlobs(), SqliteRecords(":memory:")
        else:
            stack.enter_context(locked(options.state_dir))
            self.blobs = FileBlobs(options.state_dir / "blobs", fsync=options.fsync)
            self.records = SqliteRecords(options.state_dir / "records.db", fsync=options.fsync)
        stack.callback(self.records.close)
        if not options.workers:
            self._inline = InlinePool(self.interrupt if options.debug else None)
        pool = self._inline or ProcessPool(options.workers, options.device, threads=1)
        self.first_jobs = AwaitedJobs(pool)
        stack.callback(pool.close)
        wanted = self.policy.seed or (str(package.seed) if package.seed else None)
        if wanted is not None:
            seed = stored_seed(wanted, package, options.state_dir, self.records, self.blobs)
            self.policy = self.policy.model_copy(update={"seed": seed})
        self.chain = chain_of(options, self.policy, self.records)
        self.policy = self.chain.policy
        check_enough_clients(options, self.policy)
        self.session = self.chain.open_session(self.records)
        common = self.topology, self.chain.random_seed, package.sha256, self.scheduler, self.broker
        self._services = Services(options, *common, self.blobs, self.records, pool)
        stack.callback(self._services.close)

    def _check_open(self) -> None:
        if self._stack is None:
            raise ConfigError("the sandbox is not open: use it inside of `with Sandbox(…) as sandbox:`")

    def _begin(self) -> Future[dict[str, Any]]:
        """Starts the session's thread at the first call. Returns what becomes of the session."""
        self._check_open()
        if self._is_serving:
            raise ConfigError(
                "this sandbox serves the sessions that it receives: open another Sandbox for run or rounds"
            )
        if self._ended is None:
            ended: Future[dict[str, Any]] = Future()
            ended.add_done_callback(lambda _: self._changes.note())
            self._ended = ended
            if self.options.debug:
                self._work(ended)
            else:
                self._thread = threading.Thread(target=self._work, args=(ended,), name="fedmq-sandbox", daemon=True)
                self._thread.start()
        return self._ended

    def _work(self, ended: Future[dict[str, Any]]) -> None:
        try:
            ended.set_result(self._train())
        except BaseException as error:  # raised again in the thread that waits
            ended.set_exception(error)

    def _train(self) -> dict[str, Any]:
        """Runs the sessions of the chain that have not ended, until one fails. Returns the last one's record."""
        is_running, ended = False, None
        for name in self.chain.sessions:
            self.session = name
            ended = self.records.get(tables.SESSIONS, self.session)
            if ended is not None and ended["state"] in tables.ENDED:
                continue
            policy = self.chain.policy_of(self.session, self.records) if ended is None else None
            if not is_running:
                is_running = True
                seed = self._prepare(is_seed_missing=policy is not None and policy.seed is None)
                if policy is not None and seed is not None:
                    policy = policy.model_copy(update={"seed": seed})
                self._services.start(self._receive, "event.#" if self.on_event or self._is_followed else SESSION_EVENTS)
            if policy is not None:
                self._services.start_session(self.session, policy)
            self.scheduler.run()
            ended = self.records.get(tables.SESSIONS, self.session)
            if ended is None or ended["state"] != "finished" or self._interrupted.is_set():
                break
        if is_running:
            self._services.stop(self._interrupted.is_set)
            ended = self.records.get(tables.SESSIONS, self.session)
        if ended is None or ended["state"] not in tables.ENDED:
            raise Interrupted
        return ended

    def _prepare(self, is_seed_missing: bool) -> str | None:
        """Returns the id of the first model, if there is to be one. Sets `untested` and `notes`."""
        is_new = self.records.get(tables.SESSIONS, self.chain.sessions[0]) is None
        common = self.options, self._services.random_seed, self.first_jobs, self.policy, self.blobs
        seed, self.untested, self.notes = begin(*common, self._interrupted, is_seed_missing, is_new)
        return seed

    def _receive(self, envelope: Envelope, event: Event) -> None:
        if self.on_event is not None:
            self.on_event(envelope, event)
        if event.name in ("round.committed", "model.validated"):
            self._changes.note()
        if event.session == self.session and event.name in ENDINGS:
            self.scheduler.post(self.scheduler.stop)
