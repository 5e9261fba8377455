"""Sessions by what people call them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedmq_sdk.alliance import SessionHandle


def session_at(url: str | None, session: str) -> SessionHandle:
    """The session of this id, or for `last` the newest. Raises NotFound."""
    from fedmq.errors import NotFound
    from fedmq_sdk.alliance import Alliance

    alliance = Alliance(url)
    if session == "last":
        newest = alliance.sessions(limit=1)
        if not newest:
            raise NotFound("there is no session yet: `fedmq start` starts one")
        session = newest[0]["session"]
    return alliance.session(session)
