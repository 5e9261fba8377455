"""The reducer with one session, whose invariants are checked after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fedmq_reducer.snapshot import Snapshot

from .driver import SessionDriver

StartSession = Callable[..., SessionDriver]


@pytest.fixture
def start() -> Iterator[StartSession]:
    """Makes drivers: `start(homes, snapshot, **policy)`. Without `homes` there are two clients, at two combiners."""
    drivers: list[SessionDriver] = []

    def start(
        homes: dict[str, list[str]] | None = None, snapshot: Snapshot | None = None, **policy: Any
    ) -> SessionDriver:
        drivers.append(SessionDriver(homes or {"k1": ["c1"], "k2": ["c2"]}, snapshot, **policy))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.check()


@pytest.fixture
def session(start: StartSession) -> SessionDriver:
    """Two rounds with two clients at two combiners; both updates are required."""
    return start(rounds=2, clients_required=2)
