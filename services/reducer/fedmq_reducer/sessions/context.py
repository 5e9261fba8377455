"""The data that all decisions of a reducer are based on. Pure."""

from __future__ import annotations

from fedmq.runtime.routines import Context
from fedmq_reducer.members.membership import Membership


class ReducerContext(Context):
    """The context of a reducer's routines.

    `members`: the clients and combiners. `term`: the number of the lease under which this reducer decides, called `epoch` in
    messages and records. Each lease has a higher term than those before it.
    `single_combiner_rules`: the aggregation rules that do not compose over combiners.
    """

    def __init__(self, members: Membership, term: int = 0, single_combiner_rules: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.members = members
        self.term = term
        self.single_combiner_rules = single_combiner_rules
