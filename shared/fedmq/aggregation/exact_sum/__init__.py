"""The default rule: the exact, order-independent weighted mean.

accumulator    the rule: verify, add, write, merge, finish
fixedpoint     floats as integers: exponents, lanes, units
lanes          the integers of a sum
places         into which lanes an update goes
partial        what a partial blob says of itself
"""

from fedmq.aggregation.exact_sum.accumulator import Accumulator
from fedmq.aggregation.exact_sum.fixedpoint import exponents, initial_exponents

__all__ = ["Accumulator", "exponents", "initial_exponents"]
