"""The data that all decisions of a reducer are based on. Pure."""

from __future__ import annotations

from fedmq.runtime.routines import Context
from fedmq_reducer.membership import Membership


class ReducerContext(Context):
    """The context of a reducer's routines.

    `members`: the clients and combiners. `term`: the number of the lease under which this reducer decides, called `epoch` in
    messages and records. Each lease has a higher term than those before it.
    """

    def __init__(self, members: Membership, term: int = 0) -> None:
        super().__init__()
        self.members = members
        self.term = term
