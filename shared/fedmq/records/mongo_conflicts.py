"""Repeats a call that met a conflict of two writes, which the server then has not performed at all."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fedmq.errors import Transient

P = ParamSpec("P")
T = TypeVar("T")

WRITE_CONFLICT = 112
ATTEMPTS = 8
LONGEST_PAUSE = 0.05


def repeated(call: Callable[P, T]) -> Callable[P, T]:
    """Returns the call, repeated up to 8 times while the server refuses it for a conflict of two writes.

    No argument may be an iterator, as the first attempt would exhaust it.
    """

    @functools.wraps(call)
    def repeating(*arguments: P.args, **options: P.kwargs) -> T:
        for _ in range(ATTEMPTS - 1):
            try:
                return call(*arguments, **options)
            except Transient as error:
                if getattr(error.__cause__, "code", None) != WRITE_CONFLICT:
                    raise
            time.sleep(random.uniform(0.0, LONGEST_PAUSE))
        return call(*arguments, **options)

    return repeating
