"""Why a step of a job failed: in full, and as far as it quotes nothing of the user's."""

from __future__ import annotations

from typing import NamedTuple


class Explanation(NamedTuple):
    """Why a step failed. `plain` and `frames`: see `Result`."""

    reason: str
    traceback: str = ""
    plain: str = ""
    frames: str = ""
