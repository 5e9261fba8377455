"""Measures a round without training: ten tensors of 1 kB, training that adds a constant, everything in one process.

    python benchmarks/sandbox_rounds.py [--rounds 10] [--clients 10 100 1000] [--flower /path/to/flower-venv/bin/python]

Prints the milliseconds from each round's plan to its commit, without the first round. With `--flower` Flower's simulation
does the same work in turn (`peers/flower_rounds.py`), so that both run under the same load. `--workers 2` runs the
trainers in worker processes, which is the default of `fedmq sandbox`.

Most of a round is Python's own work, so the interpreter matters: use the same one for both. Distributions build theirs with
profile-guided optimization, which self-built ones often lack.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from fedmq_sandbox import Sandbox

TRAINER = """
import numpy as np

class Trainer:
    def __init__(self, client): ...
    def init(self):
        random = np.random.default_rng(0)
        return {f"{number}": random.standard_normal(250, np.float32) for number in range(10)}
    def train(self, weights, task):
        step = np.float32(0.01 + 1e-5 * (task.seed % 97))
        return {name: value + step for name, value in weights.items()}, 10, {}
"""
FLOWER_ROUNDS = 4


def rounds_ms(package: Path, clients: int, rounds: int, workers: int = 0) -> list[float]:
    """Returns the milliseconds of each round but the first."""
    policy = {"rounds": rounds, "random_seed": 1, "validation": "none"}
    with Sandbox(package, policy=policy, clients=clients, workers=workers, evaluator=False) as sandbox:
        session = sandbox.run()
        if session["state"] != "finished":
            raise SystemExit(f"the session {session['state']}: {session['reason']}")
        return [1e3 * each.seconds for each in sandbox.rounds() if each.number > 1]


def flower_ms(python: Path, clients: int) -> list[float]:
    """Returns the milliseconds of each round but the first in Flower's simulation."""
    script = Path(__file__).parent / "peers" / "flower_rounds.py"
    command = [str(python), str(script), str(clients), str(FLOWER_ROUNDS)]
    ended = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    return [1e3 * seconds for seconds in json.loads(ended.stdout.splitlines()[-1])[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="rounds of each session, at least 2")
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 100, 1000], help="numbers of clients")
    parser.add_argument(
        "--workers", type=int, default=0, help="worker processes for trainers; 0: none, in this process"
    )
    parser.add_argument(
        "--flower", type=Path, help="the Python of an environment with flwr[simulation], to compare with"
    )
    options = parser.parse_args()
    print(f"Python {platform.python_version()} in {sys.base_prefix}; {options.workers} worker processes")
    print("ms a round, 10 tensors of 1 kB, training without cost, two combiners")
    columns = ("clients", "median", "least", "most", *(("Flower", "ratio") if options.flower else ()))
    print(" ".join(f"{column:>8}" for column in columns))
    with tempfile.TemporaryDirectory() as name:
        package = Path(name)
        (package / "fedn.yaml").write_text("trainer: trainer.py:Trainer\n")
        (package / "trainer.py").write_text(TRAINER)
        for clients in options.clients:
            took = rounds_ms(package, clients, options.rounds, options.workers)
            line = f"{clients:8} {median(took):8.1f} {min(took):8.1f} {max(took):8.1f}"
            if options.flower:
                peer = median(flower_ms(options.flower, clients))
                line += f" {peer:8.0f} {peer / median(took):8.1f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
