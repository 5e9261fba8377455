"""A sandbox that is killed at any instant finishes its session when it is run again, with the same model."""

import random
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fedmq.records.sqlite_reading import SqliteReader
from fedmq_schemas import records as tables
from sandbox.commands import finish, finish_and_show, kill

ROUNDS = 150
KILLS = 20
MOST_CALLS = 1000
"""Writes, messages and acknowledgements of one life: the session takes 11,000, so that no life ends it."""
WORDS = f"--clients 5 --combiners 2 --rounds {ROUNDS} --fraction 0.6 --random-seed 4"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return finish(tmp_path_factory.mktemp("undisturbed"), WORDS)


@pytest.mark.timeout(900)
def test_killed_at_twenty_drawn_instants(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """An instant is before or after a write, a message or an acknowledgement, counted from the start of the process."""
    draws = random.Random(20)
    for _ in range(KILLS):
        kill(tmp_path, WORDS, draws.choice(("before anything", "after anything")), draws.randint(1, MOST_CALLS))
    result = finish(tmp_path, WORDS)
    assert result["sha256"] == undisturbed["sha256"]
    assert [one["round"] for one in result["rounds"]] == list(range(1, ROUNDS + 1))


@pytest.mark.parametrize("place", ["inside a blob write", "before the commit", "after the commit"])
@pytest.mark.parametrize("number", [2, 31])
def test_killed_at_one_exact_place(place: str, number: int, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    kill(tmp_path, WORDS, place, number)
    result = finish(tmp_path, WORDS)
    assert result["sha256"] == undisturbed["sha256"]
    assert all(one["accepted"] == 3 for one in result["rounds"])


@pytest.mark.parametrize("number", [3, 9, 15])
def test_killed_within_a_round_the_console_shows_the_mean_of_all_clients(number: int, tmp_path: Path) -> None:
    """The places are validations of the models 0, 1 and 2, which the evaluator and five clients score."""
    words = "--clients 5 --combiners 2 --rounds 4 --random-seed 4"
    kill(tmp_path, words, "after a validation", number)
    with closing(SqliteReader(tmp_path / "records.db")) as records:
        committed = records.count(tables.ROUNDS, {})
    result, shown = finish_and_show(tmp_path, words)
    found = re.findall(r"^model (\d): mse ([\d.]+) \(own data of (\d) clients?\)$", shown, re.MULTILINE)
    means = [result["start"]["metrics"]["mse"], *(one["metrics"]["mse"] for one in result["rounds"])]
    # The commit of the newest round is published again, and the model that it validated is shown with it.
    before = max(0, committed - 1)
    assert found == [(str(model), f"{mean:.1f}", "5") for model, mean in enumerate(means)][before:]
    assert shown.count(": 5 of 5 accepted") == 4 - before
