"""Measures time and memory for folding an update, beside the least work that numpy could do.

    python benchmarks/fold.py [--megabytes 100] [--repeats 7]

The floor is `sum += weight * update` with a float64 sum, in place, in blocks of 262,144 elements.
Rows are measured in turns within one process, so that their ratios hold on a noisy machine. Times are medians. Peak
memory is that of a process that folds updates from files, one after another, and writes the partial.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

import numpy as np

from fedmq.aggregation import Accumulator, initial_exponents
from fedmq.aggregation.arrangement import BLOCK
from fedmq.tensors import Source, Spec, Weights, encode, spec_of

WEIGHT = 100
FILES = 5
ARRAYS = 10
CHUNK = 2**20


def update_of(elements: int, random_seed: int, arrays: int = ARRAYS) -> Weights:
    """Returns an update of random float32 values."""
    rng = np.random.default_rng(random_seed)
    size = elements // arrays
    return {f"{index:04d}/kernel": 0.01 * rng.standard_normal(size, dtype=np.float32) for index in range(arrays)}


def accumulator_for(spec: Spec) -> Accumulator:
    """Returns exponents as a previous round would give them."""
    return Accumulator(spec, initial_exponents(spec, [4 * WEIGHT] * 2))


def floor(update: Weights) -> Callable[[], None]:
    """Returns a function that adds the update once to a float64 sum in numpy."""
    sums = [np.zeros(array.size) for array in update.values()]
    scratch = np.empty(min(BLOCK, max(array.size for array in update.values())))
    weight = np.float64(WEIGHT)

    def add() -> None:
        for total, array in zip(sums, update.values(), strict=True):
            for start in range(0, array.size, BLOCK):
                values = array[start : start + BLOCK]
                weighted = np.multiply(values, weight, out=scratch[: values.size])
                into = total[start : start + values.size]
                np.add(into, weighted, out=into)

    return add


def fetch(file: Path, scratch: Path) -> str:
    """Copies a blob to a scratch file and hashes it, as a combiner does."""
    digest = hashlib.sha256()
    with file.open("rb") as blob, scratch.open("wb") as copy:
        while chunk := blob.read(CHUNK):
            digest.update(chunk)
            copy.write(chunk)
    return digest.hexdigest()


def in_turns(rows: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Returns the median seconds of each row, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(repeats + 1):
        for name, work in rows.items():
            start = time.perf_counter()
            work()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: median(found) for name, found in times.items()}


def measure(update: Weights, folder: Path, repeats: int) -> dict[str, float]:
    """Returns the seconds of each step for one update, whose file is in `folder`."""
    blob = encode(update)
    file, scratch = folder / "0000", folder / "scratch"
    if not file.exists():
        file.write_bytes(blob)
    source = Source(blob)
    total = accumulator_for(spec_of(update))
    seen = total.verify(source, WEIGHT)

    def from_fetch_to_fold() -> None:
        fetch(file, scratch)
        with Source(scratch) as fetched:
            total.fold(fetched, WEIGHT)

    with Source(file) as opened:
        return in_turns(
            {
                "floor: float64 sum in numpy": floor(update),
                "fold, from memory": lambda: total.add(source, WEIGHT, seen),
                "fold, from a file": lambda: total.add(opened, WEIGHT, seen),
                "verify, from memory": lambda: total.verify(source, WEIGHT),
                "verify + fold, from a file": lambda: total.fold(opened, WEIGHT),
                "fetch + sha256 + verify + fold": from_fetch_to_fold,
            },
            repeats,
        )


def fold_files(files: Iterable[Path], count: int) -> float:
    """Folds `count` updates from files, writes the partial, and returns the process's peak memory in GB."""
    paths = list(files)
    with Source(paths[0]) as first:
        total = accumulator_for(spec_of(first.tensors))
    for index in range(count):
        with Source(paths[index % len(paths)]) as update:
            total.fold(update, WEIGHT + index)
    with tempfile.TemporaryFile() as partial:
        total.write(partial)
    status = Path("/proc/self/status").read_text()
    line = next(line for line in io.StringIO(status) if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e9


def peak_memory(folder: Path, count: int) -> float:
    """Runs `fold_files` in a process of its own."""
    command = [sys.executable, __file__, "--fold-files", str(folder), str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=100, help="size of an update")
    parser.add_argument("--repeats", type=int, default=7, help="turns to take the median of")
    parser.add_argument("--fold-files", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fold_files:
        folder, count = options.fold_files
        print(fold_files(sorted(Path(folder).glob("[0-9]*")), int(count)))
        return
    elements = int(options.megabytes * 1e6) // 4
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index in range(FILES):
            (folder / f"{index:04d}").write_bytes(encode(update_of(elements, index)))
        seconds = measure(update_of(elements, 0), folder, options.repeats)
        peaks = {count: peak_memory(folder, count) for count in (5, 40)}
    with tempfile.TemporaryDirectory() as name:
        tiny = measure(update_of(2500, 0), Path(name), 500)
    least = seconds["floor: float64 sum in numpy"]
    print(f"one update: {options.megabytes:g} MB as {ARRAYS} float32 tensors | 10 kB likewise")
    print(f"{'':32} {'ms':>8} {'x floor':>8} {'GB/s':>6} | {'us':>6}")
    for row, took in seconds.items():
        rate = options.megabytes / 1e3 / took
        print(f"{row:32} {took * 1e3:8.1f} {took / least:8.2f} {rate:6.2f} | {tiny[row] * 1e6:6.0f}")
    for count, peak in peaks.items():
        print(f"peak memory at {count:2} updates: {peak:.3f} GB")


if __name__ == "__main__":
    main()
