"""Splits a data set that all clients hold into one part a client, for examples and simulations.

Real sites have data of their own. Every client computes the whole split from numbers that all of them share and uses its
own part, so no part is ever sent.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedmq.errors import ConfigError

Indices = NDArray[np.int64]


def partition(labels: ArrayLike, count: int, random_seed: int, dirichlet: float | None = None) -> list[Indices]:
    """Returns the indices of each of `count` parts, sorted; together they are 0 … len(labels) - 1, each once.

    - `dirichlet` None: a seeded shuffle, cut into parts whose sizes differ by at most one (IID).
    - `dirichlet` alpha > 0: for each class, its share per part is drawn from Dirichlet(alpha) (label skew as in Li et al.
      2022, "Federated Learning on Non-IID Data Silos"); 0.1 is harsh, 100 is nearly IID. `labels` are then the classes, of
      shape (n,) or one-hot (n, classes).
    - No part is empty: an empty one is given an example of the largest.
    - Raises ConfigError if there are fewer examples than parts, or alpha or count is not positive.

    The same arguments give the same parts in every process.
    """
    values = np.asarray(labels)
    examples = len(values)
    if count < 1:
        raise ConfigError(f"a data set can't be split into {count} parts")
    if examples < count:
        raise ConfigError(f"{examples} examples can't be split into {count} parts: use fewer clients or more data")
    generator = np.random.default_rng([random_seed & 0xFFFFFFFFFFFFFFFF, count])
    if dirichlet is None:
        return [np.sort(part) for part in np.array_split(generator.permutation(examples), count)]
    if not dirichlet > 0:
        raise ConfigError(f"the Dirichlet alpha must be above 0, not {dirichlet}")
    if values.ndim == 2:
        values = values.argmax(axis=1)
    parts = _by_label(values, count, generator, dirichlet)
    _fill_empty(parts)
    return [np.sort(np.array(part, dtype=np.int64)) for part in parts]


def _by_label(labels: NDArray[Any], count: int, generator: np.random.Generator, alpha: float) -> list[list[int]]:
    parts: list[list[int]] = [[] for _ in range(count)]
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        shares = generator.dirichlet(np.full(count, alpha))
        cuts = np.round(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for part, chunk in zip(parts, np.split(members, cuts), strict=True):
            part.extend(chunk.tolist())
    return parts


def _fill_empty(parts: Sequence[list[int]]) -> None:
    for part in parts:
        if not part:
            part.append(max(parts, key=len).pop())
