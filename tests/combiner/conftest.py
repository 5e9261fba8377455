"""A combiner for each test; see `protocol.py` for what is checked of it at teardown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from combiner.protocol import Combiner


@pytest.fixture
def combiner() -> Iterator[Combiner]:
    """A combiner that has registered and has no plan."""
    made = Combiner()
    made.register()
    yield made
    made.conclude()
