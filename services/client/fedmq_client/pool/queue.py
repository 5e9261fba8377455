"""Jobs that no worker has been handed yet: those of each worker's clients, and of clients that have no worker.

Not safe across threads: the pool's lock guards it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fedmq_client.job.job import Job, OnDone, OnProgress, OnValidation

NEVER = float("inf")


@dataclass(slots=True, eq=False)
class Ticket:
    """A job that was submitted. `ends`: when its time is up, on the monotonic clock."""

    job: Job
    on_validation: OnValidation
    on_progress: OnProgress
    on_done: OnDone
    ends: float
    cancelled: bool = False

    @property
    def home(self) -> tuple[Path, str]:
        return (self.job.package, self.job.client.name)


class Waiting:
    """Workers go by their numbers. `next_end`: nobody's time is up before, and perhaps not then either."""

    def __init__(self, workers: int) -> None:
        self.next_end = NEVER
        self._new: deque[Ticket] = deque()
        self._own: list[deque[Ticket]] = [deque() for _ in range(workers)]

    def add(self, ticket: Ticket, worker: int | None) -> None:
        """`worker`: whose client it is, None: nobody's yet."""
        (self._new if worker is None else self._own[worker]).append(ticket)
        self.next_end = min(self.next_end, ticket.ends)

    def put_back(self, tickets: Iterable[Ticket], worker: int) -> None:
        """What a worker was handed waits again, in its order and before all others."""
        returned = list(tickets)
        self._own[worker].extendleft(reversed(returned))
        self.next_end = min([self.next_end, *(ticket.ends for ticket in returned)])

    def has_own(self, worker: int) -> bool:
        return bool(self._own[worker])

    def queue_for(self, worker: int, stuck: Iterable[int]) -> deque[Ticket] | None:
        """Where the worker's next job is: with its own clients', with new ones', or with those of a `stuck` worker."""
        for queue in (self._own[worker], self._new):
            if queue:
                return queue
        return next((self._own[other] for other in stuck if self._own[other]), None)

    def drop(self, which: Callable[[Ticket], bool]) -> list[Ticket]:
        """Takes out those that are meant."""
        dropped = []
        for queue in self._queues():
            found = [ticket for ticket in queue if which(ticket)]
            for ticket in found:
                queue.remove(ticket)
            dropped += found
        return dropped

    def take_late(self, now: float) -> list[Ticket]:
        """Takes out those whose time is up."""
        if now < self.next_end:
            return []
        late = self.drop(lambda ticket: ticket.ends <= now)
        self.next_end = min((ticket.ends for queue in self._queues() for ticket in queue), default=NEVER)
        return late

    def _queues(self) -> Iterator[deque[Ticket]]:
        yield self._new
        yield from self._own
