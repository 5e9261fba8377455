"""A simulation that finds nothing proves nothing: each of nine planted bugs must be found."""

from __future__ import annotations

import pytest

from simulation.bugs import BUGS
from simulation.campaign import campaign

MOST_PLANS = 3000


@pytest.mark.timeout(900)
@pytest.mark.parametrize("bug", BUGS)
def test_the_simulation_finds(bug: str) -> None:
    result = campaign(range(MOST_PLANS), bug, until_failure=True)
    assert result.failures, f"{bug} was not found in {result.plans} plans"
    assert "AttributeError" not in result.text(), f"{bug} uses a name that is gone: mend tests/simulation/bugs.py"
