"""Numbers of clients. Pure."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field


@dataclass(slots=True)
class Ordinals:
    """Numbers for clients, the lowest free one first."""

    taken: dict[int, str] = field(default_factory=dict)
    freed: list[int] = field(default_factory=list)
    following: int = 0

    def take(self, name: str, wanted: int | None) -> int:
        """Returns the wanted number if it is free or the client's own, else the lowest free one."""
        if wanted is not None and self.taken.get(wanted, name) == name:
            self.taken[wanted] = name
            for skipped in range(self.following, wanted):
                heapq.heappush(self.freed, skipped)
            self.following = max(self.following, wanted + 1)
            return wanted
        while self.freed:
            number = heapq.heappop(self.freed)
            if number not in self.taken:
                self.taken[number] = name
                return number
        return self.take(name, self.following)

    def free(self, number: int | None, name: str) -> None:
        """Frees a number, if it belongs to the client."""
        if number is not None and self.taken.get(number) == name:
            del self.taken[number]
            heapq.heappush(self.freed, number)

    def count(self) -> int:
        """Returns the highest taken number plus one."""
        return max(self.taken, default=-1) + 1
