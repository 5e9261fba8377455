"""Thirty blows in one session: the model is the one of a session that nothing happened to."""

from __future__ import annotations

import pytest

from system.chaos import run_chaos
from system.deployment import Deployment


@pytest.mark.system
@pytest.mark.timeout(480)
def test_thirty_blows_at_random_change_nothing(alliance: Deployment) -> None:
    faulty, undisturbed = run_chaos(alliance, blows=30, seed=1, say=print)

    assert faulty == undisturbed
