"""How far each session has come, as told by what arrives: recognises what is late. Pure.

A message may come twice, and the second time much later. Within a session, places (round, attempt, ...) only grow, so
what lies before the newest known place is superseded.
"""

from __future__ import annotations

MOST_SESSIONS = 100

Place = tuple[int, ...]

_START: Place = ()
_OVER: Place = (2**63,)


class Newest:
    """The newest place of each of the last 100 sessions that were heard of."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}

    def is_superseded(self, session: str, place: Place = _START) -> bool:
        """Whether the session is over or something later was here before. Without a place, only the first."""
        known = self._places.get(session, _START)
        if known is _OVER or (place and place < known):
            return True
        self._note(session, max(known, place))
        return False

    def end(self, session: str) -> None:
        """The session is over for good."""
        self._note(session, _OVER)

    def _note(self, session: str, place: Place) -> None:
        self._places[session] = place
        if len(self._places) > MOST_SESSIONS:
            del self._places[next(iter(self._places))]
