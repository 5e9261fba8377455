"""Who is there: last-heard times against a presence period. Pure."""

from __future__ import annotations

from collections.abc import Iterator

MISSED_PERIODS = 3


class PresenceTable:
    """Names and when each was last heard (seconds on the caller's monotonic clock).

    A member is gone when it was not heard for three periods, but never before `grace_until`: after its own start nobody
    declares anybody vanished for two periods.
    """

    def __init__(self, period: float) -> None:
        self.period = period
        self._heard: dict[str, float] = {}
        self._grace_until = float("-inf")

    def start(self, now: float) -> None:
        self._grace_until = now + 2 * self.period

    def hear(self, name: str, now: float) -> bool:
        """Notes a sign of life; True if the name was not a member before."""
        new = name not in self._heard
        self._heard[name] = now
        return new

    def remove(self, name: str) -> bool:
        """True if it was a member."""
        return self._heard.pop(name, None) is not None

    def expire(self, now: float) -> list[str]:
        """Removes and returns, sorted, those that were not heard for too long."""
        if now < self._grace_until:
            return []
        limit = now - MISSED_PERIODS * self.period
        gone = sorted(name for name, heard in self._heard.items() if heard < limit)
        for name in gone:
            del self._heard[name]
        return gone

    def __contains__(self, name: str) -> bool:
        return name in self._heard

    def __len__(self) -> int:
        return len(self._heard)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._heard))
