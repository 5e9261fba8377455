"""The environment of a worker process: complete before the worker imports frameworks, which read it once."""

import os
import re
from collections.abc import Mapping

from fedmq.errors import ConfigError

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
DEVICE_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


def cores() -> int:
    """Returns the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment(base: Mapping[str, str], device: str, worker: int, workers: int, threads: int = 0) -> dict[str, str]:
    """Returns `base` with the variables of worker number `worker` of `workers`.

    - `device`: `auto` leaves the choice to the framework. `cpu` hides all accelerators. `0` or `0,1` shows these, divided
      evenly among the workers (several may share one).
    - `threads`: of numerical libraries, per worker. 0 means cores // workers, at least 1, unless `base` sets it. Sums
      depend on the number of threads: set it to repeat a training elsewhere.
    - Python's hash seed is fixed, so that the order of sets is fixed. TensorFlow logs errors only, and allocates no more
      of a GPU's memory than it needs.

    Raises ConfigError for any other device.
    """
    result = dict(base)
    for name in THREAD_VARIABLES:
        if threads:
            result[name] = str(threads)
        else:
            result.setdefault(name, str(max(1, cores() // workers)))
    result.setdefault("PYTHONHASHSEED", "0")
    result.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    result.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    numbers = _numbers(device)
    if numbers is not None:
        mine = numbers[worker::workers] or [numbers[worker % len(numbers)]] if numbers else ["-1"]
        for name in DEVICE_VARIABLES:
            result[name] = ",".join(mine)
    return result


def _numbers(device: str) -> list[str] | None:
    if device == "auto":
        return None
    if device == "cpu":
        return []
    if re.fullmatch(r"\d+(,\d+)*", device):
        return device.split(",")
    raise ConfigError(f"FEDN_CLIENT_DEVICE is {device!r}: use auto, cpu, or numbers such as 0 or 0,1")
