"""Whether the package of a state folder has changed since the sessions of the folder trained."""

from __future__ import annotations

from dataclasses import dataclass

from fedmq.records.base import Records
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Event

SHOWN = 12
"""Number of digits of a hash that a text shows."""


@dataclass(frozen=True, slots=True)
class PackageChange:
    """The hash of the package that trained last, and that of the package as it is now."""

    before: str
    now: str

    def __str__(self) -> str:
        return f"the package has changed since ({self.before[:SHOWN]} then, {self.now[:SHOWN]} now)"

    def event(self, session: str, number: int) -> Event:
        """Returns the event that reports the change for a session that has committed round `number`."""
        results = (
            f"after round {number} of this session clients use the changed one, so that its results come from both"
        )
        reason = f"{self}: {results}"
        data = {"reason": reason, "before": self.before, "package": self.now}
        return Event(name="package.changed", session=session, round=number, data=data)


def package_change(records: Records, now: str) -> PackageChange | None:
    """Returns the change of the package since a sandbox last trained on these records. None if there is none.

    The hash before is that with which the first client attached. Every client of a sandbox has the same package, so the
    answer is only right until the clients of this process attach.
    """
    client = records.get(tables.CLIENTS, "client1")
    before = None if client is None else client["package"]
    is_first = not records.find(tables.SESSIONS, limit=1)
    return None if is_first or before in (None, now) else PackageChange(before, now)
