"""Why a step of a job failed: in full, and as far as it quotes nothing of the user's."""

from __future__ import annotations

from typing import NamedTuple

OTHER_MODEL = ". The session's model is not this package's"
REMEDY = "start from a model of this package, as `fedmq seed --package DIR` makes one"


class Explanation(NamedTuple):
    """Why a step failed. `plain` and `frames`: see `Result`."""

    reason: str
    traceback: str = ""
    plain: str = ""
    frames: str = ""

    def of_another_model(self, how: str) -> Explanation:
        """Adds that the session's model is another package's, and `how` it differs: by names that the user's code gives."""
        return self._replace(
            reason=f"{self.reason}{OTHER_MODEL}, as {how}: {REMEDY}", plain=f"{self.plain}{OTHER_MODEL}: {REMEDY}"
        )
