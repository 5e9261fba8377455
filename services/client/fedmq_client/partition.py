"""Splits a data set that all clients hold into one part a client, for examples and simulations.

Real sites have data of their own. Every client computes the whole split from numbers that all of them share and uses its
own part, so no part is ever sent.
"""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedmq.errors import ConfigError

Indices = NDArray[np.int64]

FEW = 50
"""Fewer whole numbers than these may be classes of one example each."""


def partition(labels: ArrayLike, count: int, random_seed: int, dirichlet: float | None = None) -> list[Indices]:
    """Returns the indices of each of `count` parts, sorted; together they are 0 … len(labels) - 1, each once.

    - `dirichlet` None: a seeded shuffle, cut into parts whose sizes differ by at most one (IID).
    - `dirichlet` alpha > 0: for each class, its share per part is drawn from Dirichlet(alpha) (label skew as in Li et al.
      2022, "Federated Learning on Non-IID Data Silos"); 0.1 is harsh, 100 is nearly IID. `labels` are then the classes,
      numbers or text, of shape (n,) or (n, 1), or one-hot (n, classes).
    - No part is empty: an empty one is given an example of the largest.
    - Raises ConfigError if there are fewer examples than parts, if alpha or count is not positive and finite, and, with
      alpha, for labels that are no classes: of more axes, of several columns that are not one-hot or shares of classes,
      of mixed types, or numbers of which more than half differ (whole numbers: of FEW labels or more).

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
    if not 0 < dirichlet < math.inf:
        raise ConfigError(f"the Dirichlet alpha must be above 0 and finite, not {dirichlet}")
    parts = _by_label(_classes(values), count, generator, dirichlet)
    _fill_empty(parts)
    return [np.sort(np.array(part, dtype=np.int64)) for part in parts]


def _classes(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the number of each example's class, in the order of their labels."""
    if labels.ndim > 2 or 0 in labels.shape:
        raise ConfigError(f"labels of shape {labels.shape} can't be split by class: give one per example")
    if labels.dtype == object and all(isinstance(label, Real) for label in labels.flat):
        labels = np.array(labels.tolist())  # as objects, no two NaN are equal
    if labels.ndim == 2 and labels.shape[1] > 1:
        is_number = labels.dtype.kind in "biuf"
        if not is_number or (labels < 0).any() or not np.allclose(labels.sum(axis=1), 1, atol=0.01):
            raise ConfigError(f"labels of shape {labels.shape} are not one-hot: give one per example")
        labels = labels.argmax(axis=1)
    labels = labels.reshape(-1)
    try:
        found, numbers = np.unique(labels, return_inverse=True)
    except TypeError:
        raise ConfigError(
            "labels of several types can't be split by class: replace missing labels, or leave them out"
        ) from None
    fractions = found.dtype.kind == "f" and (found[np.isfinite(found)] % 1 > 0).any()
    if found.dtype.kind in "iuf" and len(found) > len(labels) / 2 and (fractions or len(labels) >= FEW):
        raise ConfigError(
            f"{len(found)} different numbers among {len(labels)} labels are no classes, so there is no skew between them: "
            "give np.digitize(labels, edges), or no Dirichlet alpha"
        )
    return numbers


def _by_label(classes: NDArray[np.int64], count: int, generator: np.random.Generator, alpha: float) -> list[list[int]]:
    parts: list[list[int]] = [[] for _ in range(count)]
    for number in range(classes.max() + 1):
        members = generator.permutation(np.flatnonzero(classes == number))
        shares = generator.dirichlet(np.full(count, alpha))
        cuts = np.round(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for part, chunk in zip(parts, np.split(members, cuts), strict=True):
            part.extend(chunk.tolist())
    return parts


def _fill_empty(parts: Sequence[list[int]]) -> None:
    for part in parts:
        if not part:
            part.append(max(parts, key=len).pop())
