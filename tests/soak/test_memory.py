"""What a soak counts as growth."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from soak.memory import Memory, has_grown


@pytest.mark.parametrize(
    ("samples", "grown"),
    [
        ([100] * 16, False),
        ([10, 50, 90, 100] + [100] * 12, False),
        ([100] * 12 + [100, 109, 110, 105], False),
        ([100] * 12 + [100, 111, 100, 100], True),
        (list(range(100, 260, 10)), True),
    ],
    ids=["flat", "a warm-up", "a tenth at the end", "more than a tenth at the end", "steadily"],
)
def test_memory_has_grown_if_its_last_quarter_is_more_than_a_tenth_above_its_second(
    samples: list[int], grown: bool
) -> None:
    assert has_grown(samples) is grown


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_the_memory_of_this_process_is_sampled_and_one_that_has_ended_is_left_out() -> None:
    memory = Memory()
    memory.sample({os.getpid(): "this", 2**22 + 1: "ended"})
    [(name, pid)] = memory.series
    assert (name, pid) == ("this", os.getpid())
    assert memory.series[name, pid][0] > 1_000_000
