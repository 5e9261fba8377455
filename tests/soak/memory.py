"""The memory of processes over time, from /proc, and whether it stays flat."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
MOST_GROWTH = 1.1
FEWEST = 16
"""Samples of a process that are enough to judge its memory by quarters."""


@dataclass
class Memory:
    """The resident bytes of processes and of those that they have started, sampled now and then.

    A process that is started anew under the same name has a series of its own.
    """

    series: dict[tuple[str, int], list[int]] = field(default_factory=lambda: defaultdict(list))

    def sample(self, names: dict[int, str]) -> None:
        """Takes a sample of each process, by its id."""
        resident = _resident_with_children()
        for pid, name in names.items():
            if pid in resident:
                self.series[name, pid].append(resident[pid])


def has_grown(samples: list[int]) -> bool:
    """Returns whether the maximum of the last quarter is above 1.1 times the maximum of the second quarter.

    The first quarter is warm-up.
    """
    quarter = len(samples) // 4
    return max(samples[-quarter:]) > MOST_GROWTH * max(samples[quarter : 2 * quarter])


def _resident_with_children() -> dict[int, int]:
    """Returns the resident bytes of each process of this machine, with those of its descendants."""
    own: dict[int, int] = {}
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name of a process, in brackets, may hold spaces.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            resident = int((folder / "statm").read_text().split()[1]) * PAGE
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        own[int(folder.name)], parents[int(folder.name)] = resident, int(fields[1])
    total = dict(own)
    for pid, resident in own.items():
        above = parents.get(pid)
        while above in own:
            total[above] += resident
            above = parents.get(above)
    return total
