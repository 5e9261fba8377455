"""Where an update goes in a sum: for each of its runs, into which lanes and by what factor.

That depends on the update's maxima only through their powers of two, so updates that are alike share their places.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmq.aggregation.arrangement import Span
from fedmq.aggregation.exact_sum.fixedpoint import Integers, place
from fedmq.aggregation.verification import Floats


class Places:
    """The places of updates whose maxima per tensor have these `ceilings` (`fixedpoint`), shape (tensors,)."""

    def __init__(self, ceilings: NDArray[np.signedinteger], exponents: Integers, adds: NDArray[np.bool_]) -> None:
        lanes, units = place(ceilings, exponents)
        self._scale = -units
        used = set(lanes[adds].tolist())
        self._inside = {lane: (lanes == lane) & adds for lane in used}
        self._factors: dict[int, list[tuple[int, Floats]]] = {}

    def in_units(self, maxima: Floats) -> dict[int, Integers]:
        """Returns by lane: the maxima in its units, rounded up, and 0 where a tensor goes elsewhere."""
        units = np.ceil(np.ldexp(maxima, self._scale)).astype(np.int64)
        return {lane: units * inside for lane, inside in self._inside.items()}

    def of(self, run: Span) -> list[tuple[int, Floats]]:
        """Returns the lanes of a run, each with the factor (or one for each element) that makes integers of deltas."""
        factors = self._factors.get(run.first)
        if factors is None:
            factors = self._factors[run.first] = [
                (lane, _spread(np.ldexp(1.0, self._scale[run.first : run.last]) * mine, run))
                for lane, inside in self._inside.items()
                if (mine := inside[run.first : run.last]).any()
            ]
        return factors


def _spread(factors: Floats, run: Span) -> Floats:
    return factors[:1] if (factors == factors[0]).all() else np.repeat(factors, run.counts)
