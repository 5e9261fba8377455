"""A state is filed once, and a session begins with one state, whatever instant the process is killed at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client.role.personal import (
    folder_of,
    opened_at,
    seen,
    start,
    task,
    train,
)
from fedmq_schemas.messages import PersonalStart


class Killed(BaseException):
    """The process ends here."""


STEPS = ((os, "replace"), (os, "link"), (os, "open"), (os, "chmod"), (os, "unlink"), (os, "remove"), (os, "mkdir"))


def killed_at(number: int, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ends the process before the `number`-th change of a file."""
    left = [number]

    def dying(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return step(*arguments, **named)

        return call

    for module, name in STEPS:
        patch.setattr(module, name, dying(getattr(module, name)))
    yield


def dies(number: int, work: Callable[[], object]) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        for _ in killed_at(number, patch):
            try:
                work()
            except Killed:
                return True
    return False


def test_a_state_is_filed_once_whatever_step_the_process_is_killed_before(tmp_path: Path) -> None:
    number, died = 0, True
    while died:
        number += 1
        root = tmp_path / str(number)
        (root / "models").mkdir(parents=True)
        (root / "models" / f"{task('s1', 3).model.sha256}.safetensors").write_bytes(b"model")
        store = opened_at(root)
        train(store, "s1", 1)
        train(store, "s1", 2)
        store.enter(task("s1", 3))
        died = dies(number, lambda store=store: store.forget("s1", None))  # type: ignore[misc]
        again = opened_at(root)
        again.load()
        assert start(again, "s2") == PersonalStart(outcome="continued", session="s1")
        assert seen(again, task("s2", 1)) == 2
        [kept] = folder_of(root).states()
        assert (kept.session, kept.round) == ("s1", 2)
        assert kept.model == task("s1", 3).model
        assert folder_of(root).blob(kept.model).read_bytes() == b"model"
        assert not list((root / "finished").glob("s1.*.state"))
    assert number > 8


def test_a_session_begins_with_one_state_whatever_step_the_process_is_killed_before(tmp_path: Path) -> None:
    number, died = 0, True
    while died:
        number += 1
        root = tmp_path / str(number)
        train(opened_at(root), "s1", 2)
        opened_at(root).enter(task("s2", 1))
        died = dies(number, lambda root=root: start(opened_at(root), "s2"))  # type: ignore[misc]
        assert start(opened_at(root), "s2") == PersonalStart(outcome="continued", session="s1")
        assert seen(opened_at(root), task("s2", 1)) == 2
    assert number > 4
