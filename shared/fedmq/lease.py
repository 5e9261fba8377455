"""When a lease that another process holds has lapsed, measured without comparing wall clocks. Pure."""

from __future__ import annotations

from fedmq.value import value


@value
class HeldLease:
    """The lease of another holder, as recorded.

    - `stamp`: a text that differs after each renewal, by any holder.
    - `seconds`: for how long the holder may leave the lease unrenewed.
    """

    stamp: str
    seconds: float


class LeaseWatch:
    """Measures, on the caller's monotonic clock, for how long the lease of another holder has not been renewed.

    The time runs from the moment at which the caller sees a stamp for the first time, so it is never too long. The clocks of
    two hosts are never compared: one that is hours off neither ends the lease of a living holder nor extends that of a dead
    one.
    """

    def __init__(self) -> None:
        self._held: HeldLease | None = None
        self._since = 0.0

    def note(self, held: HeldLease, now: float) -> None:
        """Notes what the records held at the time `now` or shortly before."""
        if held != self._held:
            self._held, self._since = held, now

    def left(self, now: float) -> float:
        """Returns the seconds until the lease has lapsed, if it is not renewed. 0 or less: it has; or none was noted."""
        return 0.0 if self._held is None else self._since + self._held.seconds - now

    def lapsed(self, now: float) -> str:
        """Returns the stamp of the noted lease if it has lapsed, else an empty text."""
        return self._held.stamp if self._held is not None and self.left(now) <= 0 else ""
