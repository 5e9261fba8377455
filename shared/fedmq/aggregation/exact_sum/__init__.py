"""The default rule: the exact, order-independent weighted mean. `fixedpoint` explains it."""

from fedmq.aggregation.exact_sum.accumulator import Accumulator
from fedmq.aggregation.exact_sum.fixedpoint import exponents, initial_exponents

__all__ = ["Accumulator", "exponents", "initial_exponents"]
