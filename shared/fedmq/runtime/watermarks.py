"""Tracks the newest position seen per session, so that late messages can be discarded. Pure.

A message may be delivered twice, and the second time much later. Within a session, positions (round, attempt, ...) only
grow, so a message from before the newest position is late.
"""

from __future__ import annotations

MOST_SESSIONS = 100

Position = tuple[int, ...]
"""How far a session is: (round, attempt, ...), compared from left to right."""

_START: Position = ()
_OVER: Position = (2**63,)


class Watermarks:
    """The newest positions of the 100 sessions that were seen last. Nothing is known of an older session."""

    def __init__(self) -> None:
        self._newest: dict[str, Position] = {}

    def is_superseded(self, session: str, position: Position = _START) -> bool:
        """Returns whether the session is over, or at a later position. Otherwise notes the position, if given."""
        newest = self._newest.get(session, _START)
        if newest is _OVER or (position and position < newest):
            return True
        self._note(session, max(newest, position))
        return False

    def end(self, session: str) -> None:
        """Notes that the session is over: every message of it is late from now on."""
        self._note(session, _OVER)

    def _note(self, session: str, position: Position) -> None:
        self._newest.pop(session, None)  # keeps the dict in the order in which sessions were last seen
        self._newest[session] = position
        if len(self._newest) > MOST_SESSIONS:
            del self._newest[next(iter(self._newest))]
