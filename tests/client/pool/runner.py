"""A package whose trainer does what its configuration says, and a caller of the pool that runs it."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedmq import tensors
from fedmq_client import Client, Weights
from fedmq_client.job.job import Job, Result, Validated
from fedmq_client.pool.processes import ProcessPool

PATIENCE = 240.0

TRAINER = """
import ctypes, os, re, signal, subprocess, sys, time
import numpy as np

print("imported")

class Trainer:
    def __init__(self, client):
        self.client = client
        self.calls = 0

    def init(self):
        if os.environ.get("INIT") == "exit":
            os._exit(0)
        if os.environ.get("INIT") == "sleep in C":
            ctypes.PyDLL(None).sleep(1000)
        return {"w": np.zeros(3, np.float32), "n": np.zeros(1, np.int64)}

    def validate(self, weights, task):
        if task.config.get("do") == "sleep in C in validate":
            ctypes.PyDLL(None).sleep(1000)
        return 7, {"loss": float(weights["w"].sum()), "trained": self.calls}

    def train(self, weights, task):
        self.calls += 1
        do = task.config.get("do")
        if do == "raise":
            print("about to fail")
            raise ValueError("no such patient")
        if do == "exit":
            print("leaving")
            sys.stdout.flush()
            os._exit(3)
        if do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if do == "interrupt":
            raise KeyboardInterrupt
        if do == "sys.exit":
            sys.exit(1)
        if do == "hang":
            while True:
                time.sleep(0.01)
        if do == "hold the lock":
            re.match("(a+)+$", "a" * 100 + "b")
        if do == "sleep in C":
            ctypes.PyDLL(None).sleep(1000)
        if do == "wait":
            while True:
                task.report(0.5, loss=1.0)
                task.check()
                time.sleep(0.01)
        if do == "child":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            return weights, child.pid, {}
        if do == "read":
            return weights, 1, {"stdin": sys.stdin.read(), "bytes": len(os.read(0, 1))}
        weights["w"] += 1
        task.state["rounds"] = task.state.get("rounds", np.zeros(1)) + 1
        return weights, 5, {
            "pid": os.getpid(),
            "calls": self.calls,
            "draw": int(np.random.randint(1 << 30)),
            "hash": hash("a"),
            "threads": os.environ["OMP_NUM_THREADS"],
            "device": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "left": task.deadline,
        }
"""


WEIGHTS: Weights = {"w": np.arange(3, dtype=np.float32), "n": np.ones(1, np.int64)}
MODEL = tensors.encode(WEIGHTS, {"roles": {"w": "statistic"}})


class Runner:
    """Submits jobs and waits for what comes back."""

    def __init__(self, pool: ProcessPool, package: Path) -> None:
        self.pool = pool
        self.package = package
        self.number = 0

    def job(self, do: str | None = None, client: str = "c0", **changes: Any) -> Job:
        self.number += 1
        base = Job(
            id=f"j{self.number}",
            client=Client(client),
            package=self.package,
            kind="train",
            random_seed=1,
            timeout=PATIENCE,
            config={"do": do},
            model=MODEL,
        )
        return replace(base, **changes)

    def start(
        self,
        job: Job,
        on_validation: Callable[[Validated], None] = lambda _: None,
        on_progress: Callable[[str, float, dict[str, Any], str], None] = lambda *_: None,
    ) -> Callable[[], Result]:
        done = threading.Event()
        results: list[Result] = []

        def on_done(result: Result) -> None:
            results.append(result)
            done.set()

        self.pool.submit(job, on_validation, on_progress, on_done)

        def wait() -> Result:
            assert done.wait(PATIENCE), f"{job} did not end"
            assert len(results) == 1
            return results[0]

        return wait

    def run(self, do: str | None = None, **changes: Any) -> Result:
        return self.start(self.job(do, **changes))()

    def works(self) -> None:
        result = self.run()
        assert result.outcome == "done", result


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
