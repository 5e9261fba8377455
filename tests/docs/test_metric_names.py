"""The names of metrics follow Prometheus's conventions, and none is on two endpoints."""

from __future__ import annotations

import re

import pytest

from fedmq.web.families import PROCESS, UNSETTLED, Family
from fedmq_combiner import metrics as combiner
from fedmq_reducer import metrics as reducer

OF_A_PROCESS = {*PROCESS, *reducer.FAMILIES, *combiner.FAMILIES, UNSETTLED}


@pytest.mark.parametrize("family", sorted(OF_A_PROCESS | {*reducer.ALLIANCE}), ids=lambda family: family.name)
def test_a_name_shows_what_it_is(family: Family) -> None:
    assert re.fullmatch(r"(fedmq|process)(_[a-z]+)+", family.name)
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert re.fullmatch(r"[A-Z0-9].*\.", family.help)


def test_no_name_is_on_two_endpoints_or_twice_on_one() -> None:
    names = [family.name for family in [*OF_A_PROCESS, *reducer.ALLIANCE]]
    assert sorted(names) == sorted(set(names))
