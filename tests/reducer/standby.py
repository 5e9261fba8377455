"""A reducer that has just started and asks for the lease: events in, effects out."""

from __future__ import annotations

from fedmq_reducer.core import ReducerCore
from fedmq_reducer.members.membership import Membership
from fedmq_reducer.operations import Acquire, Release
from fedmq_reducer.snapshot import Load
from fedmq_schemas.topology import Topology
from support.cores import Driver, one


class Standby(Driver):
    """Drives a reducer without a session."""

    def __init__(self) -> None:
        self.reducer = ReducerCore(Membership(Topology("a"), presence=10.0), presence=10.0)
        super().__init__(self.reducer)
        self.acquire = one(self.start(), Acquire)

    def activate(self, term: int = 7) -> Load:
        """The lease is free; returns the request for the records."""
        return one(self.done(self.acquire, term), Load)

    def start_over(self) -> Load:
        """An error has come: the reducer gives the lease up, and takes it again; returns the request for the records."""
        assert one(self.fire("lease"), Release).term == 7
        return one(self.done(one(self.fire("lease"), Acquire), 8), Load)
