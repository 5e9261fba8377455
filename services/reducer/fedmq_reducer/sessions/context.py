"""What all of a reducer's decisions are based on. Pure."""

from __future__ import annotations

from fedmq.runtime.routines import Context
from fedmq_reducer.membership import Membership


class ReducerContext(Context):
    """`members`: the clients and combiners that are there. `term`: the number of the lease under which this reducer decides
    (`epoch` in messages and records); each lease has a higher one than those before it."""

    def __init__(self, members: Membership, term: int = 0) -> None:
        super().__init__()
        self.members = members
        self.term = term
