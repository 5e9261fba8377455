"""Tracks which members are alive, by the time of their last message and a presence period. Pure."""

from __future__ import annotations

from collections.abc import Iterator

MISSED_PERIODS = 3


class PresenceTable:
    """Members and the times of their last messages, in seconds on the caller's monotonic clock.

    A member expires after three silent periods, but nobody during two periods after `start`: messages may have been missed.
    """

    def __init__(self, period: float) -> None:
        self.period = period
        self._last_seen: dict[str, float] = {}
        self._grace_until = float("-inf")

    def start(self, now: float) -> None:
        """Begins the time in which nobody expires."""
        self._grace_until = now + 2 * self.period

    def note(self, name: str, now: float) -> bool:
        """Records a sign of life. Returns whether the name is a new member."""
        new = name not in self._last_seen
        self._last_seen[name] = now
        return new

    def remove(self, name: str) -> bool:
        """Removes a member. Returns whether the name was one."""
        return self._last_seen.pop(name, None) is not None

    def expire(self, now: float) -> list[str]:
        """Removes the members that were silent for too long, and returns their names, sorted."""
        if now < self._grace_until:
            return []
        limit = now - MISSED_PERIODS * self.period
        gone = sorted(name for name, seen in self._last_seen.items() if seen < limit)
        for name in gone:
            del self._last_seen[name]
        return gone

    def __contains__(self, name: str) -> bool:
        return name in self._last_seen

    def __len__(self) -> int:
        return len(self._last_seen)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._last_seen))
