"""Helpers to read and write a package's files. Weights are a list of arrays, in `.npz` under "0" … "n-1"."""

from __future__ import annotations

import json
from typing import Any

import numpy as np


class Helper:
    """The helper for numpy arrays, and for values that can become arrays."""

    name = "numpyhelper"

    def load(self, path: Any) -> list[Any]:
        """Returns the list of arrays in a file or a file-like object."""
        with np.load(path, allow_pickle=False) as archive:
            return [archive[str(number)] for number in range(len(archive.files))]

    def save(self, weights: Any, path: Any) -> Any:
        """Writes a list of arrays, and returns the path."""
        arrays: dict[str, Any] = {str(number): np.asarray(array) for number, array in enumerate(weights)}
        np.savez(path, **arrays)
        return path


def get_helper(name: str) -> Helper:
    """Returns the helper of this name. There is one, `numpyhelper`."""
    if name != Helper.name:
        raise ImportError(f"there is no helper {name!r} without FEDn itself: {Helper.name}, or pip install fedn")
    return Helper()


def save_metadata(metadata: Any, path: str) -> None:
    """Writes metadata of the model at `path`, such as its `num_examples`, beside it."""
    _write(metadata, path + "-metadata")


def load_metadata(path: str) -> Any:
    """Reads the metadata beside the model at `path`: for `train`, the session's configuration."""
    with open(path + "-metadata", encoding="utf-8") as file:
        return json.load(file)


def save_metrics(metrics: Any, path: str) -> None:
    """Writes the metrics of a validation."""
    _write(metrics, path)


def _write(value: Any, path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)
