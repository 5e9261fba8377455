"""What a trainer changes of its worker ends with its job: the next one has the same result as in a fresh worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.pool.runner import Runner
from fedmq_client.pool.processes import ProcessPool
from support.packages import write_package
from support.tiers import require_framework

TRAINER = """
import hashlib, io, locale, logging, multiprocessing, os, random, signal, socket, sys, tempfile, warnings
import numpy as np

os.environ["SET_BY_THE_FILE"] = "1"

class Trainer:
    def __init__(self, client):
        np.set_printoptions(precision=3)

    def train(self, weights, task):
        exec(task.config["do"] or "")
        worker = {"pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}
        return weights, 1, worker | {name: repr(found) for name, found in self.look().items()}

    def look(self):
        torch = sys.modules.get("torch")
        return {
            "folder": os.getcwd(),
            "file beside": open("fedn.yaml").read(),
            "umask": os.umask(os.umask(0o022)),
            "environment": hashlib.sha256(repr(sorted(os.environ.items())).encode()).hexdigest(),
            "path": hashlib.sha256(repr(sys.path).encode()).hexdigest(),
            "signals": [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)],
            "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            "alarm": signal.getitimer(signal.ITIMER_REAL),
            "locale": locale.setlocale(locale.LC_ALL),
            "numpy": [np.geterr(), np.get_printoptions()["precision"]],
            "warnings": warnings.filters[:3],
            "logging": [logging.getLogger().level, logging.getLogger().manager.disable, logging.getLogger().handlers],
            "disabled": [logging.getLogger(name).disabled for name in ("fedmq", "fedmq.client")],
            "recursion": sys.getrecursionlimit(),
            "random": [random.random(), np.random.random()],
            "timeout": socket.getdefaulttimeout(),
            "start method": multiprocessing.get_start_method(allow_none=True),
            "streams": [type(stream).__name__ for stream in (sys.stdin, sys.stdout, sys.stderr)],
            "printing": print("something"),
            "torch": torch and [torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(),
                                torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()],
        }
"""

RESTORED = {
    "the current folder": "os.chdir(tempfile.mkdtemp())",
    "a current folder that is gone": "name = tempfile.mkdtemp(); os.chdir(name); os.rmdir(name)",
    "umask": "os.umask(0o777)",
    "the environment": "os.environ.clear(); os.environ['OMP_NUM_THREADS'] = '7'",
    "sys.path": "sys.path.clear()",
    "sys.path replaced": "sys.path = ['nowhere']",
    "signal handlers": "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, print)",
    "blocked signals": "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})",
    "an alarm": "signal.alarm(600)",
    "the locale": "locale.setlocale(locale.LC_ALL, 'POSIX')",
    "numpy's errors": "np.seterr(all='raise')",
    "numpy's printing": "np.set_printoptions(precision=1)",
    "warnings": "warnings.simplefilter('error')",
    "logging": "logging.basicConfig(level=1); logging.disable(); logging.getLogger('fedmq').disabled = True",
    "the recursion limit": "sys.setrecursionlimit(300)",
    "random generators": "random.seed(9); np.random.seed(9)",
    "sockets": "socket.setdefaulttimeout(0.001)",
    "the start method": "multiprocessing.set_start_method('spawn')",
    "streams": "sys.stdout = sys.stderr = io.StringIO()",
}
REPLACED = {
    "a closed stream": "sys.stdout.close()",
    "closed descriptors": "os.closerange(0, 3)",
    "a descriptor of something else": "os.dup2(os.open(os.devnull, os.O_WRONLY), 2)",
}
TORCH = """import torch
torch.set_default_dtype(torch.float64); torch.set_default_device('meta'); torch.set_grad_enabled(False)
torch.use_deterministic_algorithms(True); torch.set_num_threads(3)"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path / "package", TRAINER)


@pytest.fixture(scope="module")
def shared_pool() -> Iterator[ProcessPool]:
    pool = ProcessPool(1)
    yield pool
    pool.close()


def _seen(result: Any) -> dict[str, Any]:
    assert result.outcome == "done", result
    return {name: value for name, value in result.metrics.items() if name != "pid"}


@pytest.mark.parametrize("row", RESTORED)
def test_what_a_job_changed_is_restored_before_the_next_one(row: str, shared_pool: ProcessPool, package: Path) -> None:
    runner = Runner(shared_pool, package)
    fresh = runner.run()
    runner.start(runner.job(RESTORED[row] + "\nraise ValueError('spoilt')", client="spoiler"))()
    after = runner.run()
    assert after.metrics == fresh.metrics
    newly_built = runner.run(client="another")
    assert _seen(newly_built) == _seen(fresh)
    assert newly_built.metrics["pid"] == fresh.metrics["pid"]


@pytest.mark.parametrize("row", REPLACED)
def test_a_worker_that_can_not_be_restored_is_replaced_and_its_job_counts(
    row: str, runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    fresh = runner.run()
    spoilt = runner.start(runner.job(f"{REPLACED[row]}\nself.look = dict"))()
    assert spoilt.outcome == "done"
    after = runner.run()
    assert _seen(after) == _seen(fresh)
    assert after.metrics["pid"] != fresh.metrics["pid"]
    assert "can't be restored: a trainer changed standard streams; starting it again" in caplog.text


def test_torchs_settings_are_restored_also_if_a_job_imported_it(runner: Runner) -> None:
    require_framework("torch")
    spoilt = runner.run(TORCH, client="spoiler")
    after = runner.run()
    assert spoilt.metrics["torch"] == "[torch.float64, device(type='meta'), False, True, 3]"
    assert after.metrics["torch"] == f"[torch.float32, device(type='cpu'), True, False, {after.metrics['threads']}]"
    assert after.metrics["pid"] == spoilt.metrics["pid"]
