"""A client as the reducer knows it, and the numbers of clients. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field

from fedmq.runtime.effects import Now
from fedmq_schemas.messages import Attach
from fedmq_schemas.records import ClientRecord


@dataclass(slots=True)
class ClientMember:
    """A client. `present`: its combiner receives messages from it. `last_seen`: UTC seconds since 1970.

    `granted_at`: when it was granted a combiner at which it has not registered yet, on the monotonic clock.
    """

    name: str
    labels: Mapping[str, str]
    tasks: tuple[str, ...]
    weight: int
    package: str | None
    software: str
    combiner: str
    ordinal: int | None
    present: bool = False
    last_seen: float = 0.0
    granted_at: float | None = field(default=None, compare=False)
    json_reader: bool = False

    @classmethod
    def attached(
        cls, name: str, body: Attach, combiner: str, ordinal: int | None, known: ClientMember | None, now: Now
    ) -> ClientMember:
        """Returns a client that was granted `combiner` now, from what it stated. `known`: what it was before."""
        return cls(
            name,
            body.labels,
            body.tasks,
            body.weight,
            body.package,
            body.software,
            combiner,
            ordinal,
            present=known.present if known else False,
            last_seen=now.wall,
            granted_at=now.seconds,
        )

    @classmethod
    def of(cls, record: ClientRecord) -> ClientMember:
        """Returns the client of a record."""
        return cls(
            name=record.client,
            labels=record.labels,
            tasks=record.tasks,
            weight=record.weight,
            package=record.package,
            software=record.software,
            combiner=record.combiner,
            ordinal=record.ordinal,
            present=record.state == "present",
            last_seen=record.last_seen,
            json_reader=record.json_reader,
        )

    @property
    def words(self) -> tuple[object, ...]:
        """What the client itself has stated."""
        return self.labels, self.tasks, self.weight, self.package, self.software

    def record(self) -> ClientRecord:
        """Returns the record of this client."""
        return ClientRecord(
            client=self.name,
            labels=dict(self.labels),
            tasks=self.tasks,
            weight=self.weight,
            package=self.package,
            software=self.software,
            combiner=self.combiner,
            ordinal=self.ordinal,
            state="present" if self.present else "away",
            last_seen=self.last_seen,
            json_reader=self.json_reader,
        )


@dataclass(slots=True)
class Ordinals:
    """Numbers for clients, the lowest free one first."""

    taken: dict[int, str] = field(default_factory=dict)
    freed: list[int] = field(default_factory=list)
    following: int = 0

    def take(self, name: str, wanted: int | None) -> int:
        """Returns the wanted number if it is free or the client's own, else the lowest free one."""
        if wanted is not None and self.taken.get(wanted, name) == name:
            self.taken[wanted] = name
            for skipped in range(self.following, wanted):
                heapq.heappush(self.freed, skipped)
            self.following = max(self.following, wanted + 1)
            return wanted
        while self.freed:
            number = heapq.heappop(self.freed)
            if number not in self.taken:
                self.taken[number] = name
                return number
        return self.take(name, self.following)

    def free(self, number: int | None, name: str) -> None:
        """Frees a number, if it belongs to the client."""
        if number is not None and self.taken.get(number) == name:
            del self.taken[number]
            heapq.heappush(self.freed, number)

    def count(self) -> int:
        """Returns the highest taken number plus one."""
        return max(self.taken, default=-1) + 1
