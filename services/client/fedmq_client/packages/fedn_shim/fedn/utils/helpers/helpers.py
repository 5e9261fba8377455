"""What packages import to read and write their files. Weights are a list of arrays, in `.npz` under "0" … "n-1"."""

from __future__ import annotations

import json
from typing import Any

import numpy as np


class Helper:
    """The helper for numpy arrays, and for all that can become some."""

    name = "numpyhelper"

    def load(self, path: Any) -> list[Any]:
        """The list of arrays in a file, or in what reads like one."""
        with np.load(path, allow_pickle=False) as archive:
            return [archive[str(number)] for number in range(len(archive.files))]

    def save(self, weights: Any, path: Any) -> Any:
        """Write a list of arrays, and return the path."""
        arrays: dict[str, Any] = {str(number): np.asarray(array) for number, array in enumerate(weights)}
        np.savez(path, **arrays)
        return path


def get_helper(name: str) -> Helper:
    """The helper of this name: there is one, `numpyhelper`."""
    if name != Helper.name:
        raise ImportError(f"there is no helper {name!r} without FEDn itself: {Helper.name}, or pip install fedn")
    return Helper()


def save_metadata(metadata: Any, path: str) -> None:
    """Write what belongs to the model at `path`, such as its `num_examples`, beside it."""
    _write(metadata, path + "-metadata")


def load_metadata(path: str) -> Any:
    """Read what was written beside the model at `path`: for `train`, the session's configuration."""
    with open(path + "-metadata", encoding="utf-8") as file:
        return json.load(file)


def save_metrics(metrics: Any, path: str) -> None:
    """Write the metrics of a validation."""
    _write(metrics, path)


def _write(value: Any, path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)
