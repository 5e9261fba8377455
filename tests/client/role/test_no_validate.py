"""A client whose trainer has no `validate` reports that once a session, and not of each model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from client.role.alone import AloneClient
from fedmq.evaluators import NO_VALIDATE
from fedmq_schemas.messages import Update, Validation
from support.packages import write_package

TRAINER = """
class Trainer:
    def __init__(self, client): ...
    def train(self, weights, task): return weights, 4, {}
"""


@pytest.fixture(autouse=True)
def _own_modules() -> Iterator[None]:
    with patch.dict(sys.modules):
        yield


def test_it_is_reported_before_the_first_training_of_each_session(tmp_path: Path) -> None:
    client = AloneClient(write_package(tmp_path, TRAINER), detail="class")
    client.attach()
    for session, round in (("s", 1), ("s", 2), ("t", 1)):
        client.request(round=round, session=session)
    found = client.bodies(Validation)
    assert [(each.plan.session, each.plan.round, each.metrics, each.reason) for each in found] == [
        ("s", 1, {}, NO_VALIDATE),
        ("t", 1, {}, NO_VALIDATE),
    ]
    assert len(client.bodies(Update)) == 3


def test_each_validation_that_returns_none_is_reported(tmp_path: Path) -> None:
    client = AloneClient(write_package(tmp_path, f"{TRAINER}    def validate(self, weights, task): ...\n"))
    client.attach()
    for round in (1, 2):
        client.request(round=round)
    assert [each.reason for each in client.bodies(Validation)] == ["validate returned None"] * 2
