"""Where an update goes in a sum: for each of its runs, into which lanes and by what factor.

That depends on the update's maxima only through their powers of two, so updates that are alike share their places.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmq.aggregation.arrangement import Span
from fedmq.aggregation.fixedpoint import Floats, Integers, place


class Places:
    """The places of updates whose maxima per tensor have these `ceilings` (`fixedpoint`), shape (tensors,).

    Of a run of small tensors that need different factors one float64 an element is kept; of all others one number.
    """

    def __init__(self, ceilings: NDArray[np.signedinteger], exponents: Integers, adds: NDArray[np.bool_]) -> None:
        lanes, units = place(ceilings, exponents)
        self._scale = -units
        used = set(lanes[adds].tolist())
        self._inside = {lane: (lanes == lane) & adds for lane in used}
        self._factors: dict[tuple[int, int], list[tuple[int, Floats]]] = {}

    def in_units(self, maxima: Floats) -> dict[int, Integers]:
        """By lane: the sum of the maxima in its units, rounded up, and 0 where a tensor goes elsewhere. `maxima`: shape
        (updates, tensors)."""
        units = np.ceil(np.ldexp(maxima, self._scale)).astype(np.int64).sum(axis=0)
        return {lane: units * inside for lane, inside in self._inside.items()}

    def of(self, run: Span) -> list[tuple[int, Floats]]:
        """The lanes of a run, each with the factor that makes integers of weighted deltas: one, or one an element."""
        factors = self._factors.get((run.first, run.last))
        if factors is None:
            factors = self._factors[run.first, run.last] = [
                (lane, _spread(np.ldexp(1.0, self._scale[run.first : run.last]) * mine, run))
                for lane, inside in self._inside.items()
                if (mine := inside[run.first : run.last]).any()
            ]
        return factors


def _spread(factors: Floats, run: Span) -> Floats:
    return factors[:1] if (factors == factors[0]).all() else np.repeat(factors, run.counts)
