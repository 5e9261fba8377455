"""Measures the time from the command to the first aggregated round: `fedmq sandbox` on examples/numpy_regression.

    python benchmarks/first_round.py [--runs 5]

The time starts before the interpreter and ends at the printed line of the first committed round. Python's own start is
printed as the floor.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

PACKAGE = Path(__file__).parents[1] / "examples" / "numpy_regression" / "client"
PEERS_SECONDS = {"Flower 1.42": 8.8, "NVIDIA FLARE 2.9": 8.9}
"""The same for the peers' own numpy examples, measured on the same kind of machine."""


def first_round(state_dir: Path) -> float:
    """Returns the seconds until the first round is committed."""
    words = [sys.executable, "-m", "fedmq_cli.app", "sandbox", "--package", str(PACKAGE), "--rounds", "1"]
    began = time.perf_counter()
    with subprocess.Popen([*words, "--state-dir", str(state_dir)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("round 1 of 1"):
                took = time.perf_counter() - began
                process.stdout.read()
                return took
    raise SystemExit("the sandbox ended without a round")


def bare_python() -> float:
    """Returns the seconds in which an interpreter imports numpy."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import numpy"], check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="runs to take the median of")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        rows = {
            "floor: python imports numpy": [bare_python() for _ in range(runs)],
            "fedmq sandbox": [first_round(Path(name) / str(number)) for number in range(runs)],
        }
    print(f"seconds from the command to the first aggregated round, {runs} runs")
    for row, took in rows.items():
        print(f"{row:28} {median(took):6.2f} ({min(took):.2f}-{max(took):.2f})")
    for peer, seconds in PEERS_SECONDS.items():
        print(f"{peer:28} {seconds:6.2f} measured on the same kind of machine, not in this run")


if __name__ == "__main__":
    main()
