"""A sandbox that deletes models is killed, and run again: the models that its policy keeps are left, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedmq.records.sqlite import SqliteRecords
from fedmq_reducer.selection import best_model
from fedmq_schemas import records as tables
from sandbox.commands import finish, kill

ROUNDS, EVERY = 9, 4
WORDS = f"--clients 3 --rounds {ROUNDS} --random-seed 3 --workers 0 --set strategy.name=fedadam"
KEEPING = f"{WORDS} --set retention.keep_models={EVERY}"


def _left(state_dir: Path) -> tuple[set[int], set[int], set[int], int]:
    """The rounds of which there are model and optimizer state, those whose model is recorded as kept, and the best one."""
    records = SqliteRecords(state_dir / "records.db")
    try:
        models = records.find(tables.MODELS)
        states = {each["round"]: each["optimizer"]["key"] for each in records.find(tables.ROUNDS)}
    finally:
        records.close()
    blobs = state_dir / "blobs"
    there = {each["round"] for each in models if (blobs / each["ref"]["key"]).exists()}
    resumable = {number for number, key in states.items() if (blobs / key).exists()}
    return there, resumable, {each["round"] for each in models if each["kept"]}, best_model(models, None, None)["round"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    state_dir = tmp_path_factory.mktemp("whole")
    result = finish(state_dir, f"{WORDS} --set retention.keep_models=all")
    there, resumable, kept, best = _left(state_dir)
    assert there == kept == set(range(ROUNDS + 1)) and resumable == set(range(1, ROUNDS + 1))
    return result | {"best": best}


def _assert_only_what_is_kept_is_left(state_dir: Path, undisturbed: dict[str, Any]) -> None:
    result = finish(state_dir, KEEPING)
    assert result["sha256"] == undisturbed["sha256"]
    there, resumable, kept, best = _left(state_dir)
    assert best == undisturbed["best"]
    assert there == kept == {0, best, ROUNDS, *range(EVERY, ROUNDS + 1, EVERY)}
    assert resumable == there - {0}


def test_seed_best_last_and_every_so_many_th_model_stay_with_their_optimizer_states(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    _assert_only_what_is_kept_is_left(tmp_path, undisturbed)


@pytest.mark.parametrize(("place", "number"), [("before a model is deleted", 1), ("after a model is deleted", 3)])
def test_a_kill_between_record_and_deletion_leaves_nothing_behind(
    place: str, number: int, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    kill(tmp_path, KEEPING, place, number)
    _assert_only_what_is_kept_is_left(tmp_path, undisturbed)
