"""Which processes send under each client's name, to notice two that live at once. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

MOST_KNOWN = 8
"""Number of instances of one name that are remembered."""


class Duplicates(NamedTuple):
    """Two living processes of one name. `continues`: the one that was received from first."""

    continues: str
    other: str


@dataclass(slots=True)
class _Name:
    seen: list[str] = field(default_factory=list)
    last: str = ""
    others: set[str] = field(default_factory=set)


class Instances:
    """The instances of each client, in the order of their first messages.

    A restarted client has a new instance, and the old one sends nothing more. So an instance that sends again after another
    one has sent shows that both live.
    """

    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}

    def knows(self, client: str) -> bool:
        """Returns whether the client states its instance."""
        return client in self._names

    def note(self, client: str, instance: str) -> Duplicates | None:
        """Notes the sender of a message. Returns the two processes if this message shows that there are two."""
        if not instance:
            return None
        name = self._names.setdefault(client, _Name())
        before, name.last = name.last, instance
        if instance not in name.seen:
            name.seen = [*name.seen[1 - MOST_KNOWN :], instance]
            return None
        if instance == before or before not in name.seen:
            return None
        continues, other = sorted((instance, before), key=name.seen.index)
        name.others.add(other)
        return Duplicates(continues, other)

    def leave(self, client: str, instance: str) -> bool:
        """Notes that a process leaves. Returns whether the client has left with it: no, if another process continues."""
        name = self._names.get(client)
        if name is None or instance not in name.others:
            self._names.pop(client, None)
            return True
        name.others.discard(instance)
        name.seen.remove(instance)
        name.last = name.seen[-1] if name.last == instance else name.last
        return False
