"""Why a step of a job failed: in full, and as far as it quotes nothing of the user's."""

from __future__ import annotations

from typing import NamedTuple


class Explanation(NamedTuple):
    """Why a step failed. `plain` and `frames`: see `Result`."""

    reason: str
    traceback: str = ""
    plain: str = ""
    frames: str = ""


def text_of(error: BaseException) -> str:
    """Returns the text of an exception. Never raises, although the class may be the user's own."""
    try:
        return str(error)
    except Exception as other:
        return f"its text can't be made, as its __str__ raised {type(other).__name__}"
