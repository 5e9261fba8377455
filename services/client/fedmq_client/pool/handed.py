"""What the pool knows of one worker: the jobs that it was handed, and whether it is to get more."""

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from fedmq_client.pool.process import Child
from fedmq_client.pool.queue import NEVER, Ticket

AHEAD_SECONDS = 0.02
AHEAD_BYTES = 32 * 1024
"""Fewer than any system's pipe holds, so that handing jobs to a busy worker does not have to wait."""


@dataclass(slots=True, eq=False)
class Worker:
    """`sent`: the jobs that it was handed, the first of which it runs since `began`; `sent_bytes` of them together. `pace`:
    seconds that a job takes, the slowest of late. `is_hungry`: its thread waits, and would take a job. Of the job that runs:
    whether it was asked to end, because its time is up or not, and when its worker is killed."""

    number: int
    environment: dict[str, str]
    changed: threading.Condition
    child: Child | None = None
    sent: deque[Ticket] = field(default_factory=deque)
    sent_bytes: int = 0
    pace: float = NEVER
    began: float = 0.0
    is_hungry: bool = False
    asked: bool = False
    timed_out: bool = False
    kill_at: float = NEVER
    false_starts: int = 0

    @property
    def is_alive(self) -> bool:
        return self.child is not None and self.child.ended is None

    @property
    def is_stuck(self) -> bool:
        """Whether another worker may take its clients' jobs."""
        return bool(self.sent) or not self.is_alive

    @property
    def has_room(self) -> bool:
        """Whether it is to be handed another job."""
        if not self.sent:
            return True
        is_quick = self.pace * len(self.sent) < AHEAD_SECONDS and time.monotonic() < self.began + AHEAD_SECONDS
        return is_quick and self.sent_bytes < AHEAD_BYTES

    def give_back(self) -> list[Ticket]:
        """Takes out the jobs that it has not come to."""
        running, *returned = self.sent
        self.sent = deque([running])
        return returned

    def turn(self) -> None:
        """The first of the jobs that it was handed runs now, if there is one."""
        self.began = time.monotonic()
        self.asked = self.timed_out = False
        self.kill_at = NEVER
        if not self.sent:
            self.sent_bytes = 0
