"""The newest state of a session outlives it within bounds, and a later session may begin with it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.role.personal import (
    BASE,
    DAY,
    NOW,
    OTHER_PACKAGE,
    PACKAGE,
    Open,
    base_with,
    folder_of,
    opened_at,
    ref,
    seen,
    start,
    state_after,
    task,
    train,
)
from fedmq import tensors
from fedmq.process.lock import try_lock
from fedmq_client.personal.site import client_in
from fedmq_client.role.operations import TaskResult, task_key
from fedmq_client.role.store import MemoryStore
from fedmq_schemas.messages import PersonalStart


@pytest.fixture(params=["memory", "folder"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens one and the same store, each time as a new life does."""
    store = MemoryStore()
    return (lambda: store) if request.param == "memory" else lambda: opened_at(tmp_path)


# -- a later session --------------------------------------------------------------------------------------------------


def test_a_session_goes_on_from_the_newest_state_and_its_own_trainings_count_then(opened: Open) -> None:
    train(opened(), "s1", 1)
    train(opened(), "s1", 2)
    opened().forget("s1", None)
    assert start(opened(), "s2") == PersonalStart(outcome="continued", session="s1")
    assert seen(opened(), task("s2", 1)) == 2
    assert seen(opened(), task("s2", 0, "validate")) == 2
    train(opened(), "s2", 1)
    assert (seen(opened(), task("s2", 1)), seen(opened(), task("s2", 2))) == (2, 1)


def test_a_state_whose_session_ended_unheard_is_filed_when_another_begins(opened: Open) -> None:
    train(opened(), "s1", 3)
    assert start(opened(), "s2").session == "s1"
    assert seen(opened(), task("s2", 1)) == 3


def test_the_choice_is_made_once_whatever_is_filed_meanwhile(opened: Open, tmp_path: Path) -> None:
    train(opened(), "s1", 1)
    first = start(opened(), "s2")
    store = opened()
    if isinstance(store, MemoryStore):
        store.filed.clear()
    else:
        folder_of(tmp_path).delete("s1")
    assert start(opened(), "s2") == first
    assert seen(opened(), task("s2", 1)) == 1


def test_a_session_that_began_anew_stays_so(opened: Open) -> None:
    assert start(opened(), "s2").outcome == "fresh"
    train(opened(), "s2", 1)
    assert start(opened(), "s2") == PersonalStart(outcome="fresh", reason="nothing is kept of an earlier session")


@pytest.mark.parametrize(
    ("package", "base", "reason"),
    [
        (OTHER_PACKAGE, BASE, "it is of another package, or of another version of the package"),
        (PACKAGE, base_with(np.zeros(3, np.float32)), "local tensor head is float32 [2] there and float32 [3] here"),
        (PACKAGE, base_with(np.zeros(2)), "local tensor head is float32 [2] there and float64 [2] here"),
        (PACKAGE, None, "local tensor head is float32 [2] there and absent here"),
    ],
    ids=["package", "shape", "dtype", "name"],
)
def test_a_state_that_does_not_fit_is_not_taken_up_and_the_reason_is_named(
    opened: Open, package: str, base: bytes | None, reason: str
) -> None:
    train(opened(), "s1", 1)
    found = start(opened(), "s2", base, package)
    assert found == PersonalStart(outcome="fresh", reason=f"what is kept of session s1 does not fit: {reason}")
    assert seen(opened(), task("s2", 1)) is None


def test_the_newest_state_that_fits_is_taken_up(opened: Open) -> None:
    train(opened(), "s1", 1, at=NOW - 2)
    train(opened(), "s2", 1, state_after(task("s2", 1), OTHER_PACKAGE), at=NOW - 1)
    assert start(opened(), "s3").session == "s1"


def test_a_state_of_an_older_version_is_not_filed(opened: Open) -> None:
    train(opened(), "s1", 1, tensors.encode({"seen": np.array([1])}, {}))
    assert start(opened(), "s2").outcome == "fresh"


def test_a_late_task_of_a_session_finds_the_state_that_was_filed(opened: Open) -> None:
    train(opened(), "s1", 1)
    opened().enter(task("s2", 1))
    assert seen(opened(), task("s1", 2)) == 1
    assert seen(opened(), task("s1", 1)) is None


def test_the_state_that_was_filed_goes_before_the_one_that_the_session_began_with(tmp_path: Path) -> None:
    train(opened_at(tmp_path), "s1", 7)
    start(opened_at(tmp_path), "s2")
    train(opened_at(tmp_path), "s2", 1)
    begun = tmp_path / "finished" / "s2.000000.update.state"
    kept = begun.read_bytes()
    opened_at(tmp_path).forget("s2", None)
    begun.write_bytes(kept)  # as after a crash before it was deleted
    assert seen(opened_at(tmp_path), task("s2", 2)) == 1
    assert seen(opened_at(tmp_path), task("s2", 1)) == 7


def test_a_training_that_left_no_state_leaves_nothing_to_file(opened: Open) -> None:
    train(opened(), "s1", 1)
    store = opened()
    store.begin(task_key(task("s1", 2).plan))
    store.keep(TaskResult(task_key(task("s1", 2).plan), "done", 1, update=b"update"), None)
    opened().forget("s1", None)
    assert start(opened(), "s2").outcome == "fresh"


def test_what_an_update_says_of_its_beginning_survives_a_restart(opened: Open) -> None:
    continued = PersonalStart(outcome="continued", session="s1")
    store, key = opened(), task_key(task("s2", 1).plan)
    path = store.begin(key)
    if path is not None:
        path.write_bytes(b"update")
    store.keep(TaskResult(key, "done", 1, update=path or b"update", personal=continued), None)
    [found] = opened().load()
    assert found.personal == continued


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_filed_state_is_the_sites_alone_with_the_newest_model_that_the_client_held(tmp_path: Path) -> None:
    base = ref("ba", BASE)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{base.sha256}.safetensors").write_bytes(BASE)
    last = task("s1", 2, "validate", base)
    (tmp_path / "models" / f"{last.model.sha256}.safetensors").write_bytes(b"model")
    store = opened_at(tmp_path)
    train(store, "s1", 2, state_after(task("s1", 2, base=base)))
    store.enter(last)
    store.forget("s1", None)
    [kept] = folder_of(tmp_path).states()
    assert (kept.session, kept.round, kept.package, kept.saved_at) == ("s1", 2, PACKAGE, NOW)
    assert (kept.model, kept.base) == (last.model, base)
    assert (kept.local, kept.state) == ({"head": ("float32", (2,))}, {"seen": ("int64", (1,))})
    personal = tmp_path / "personal"
    assert stat.S_IMODE(personal.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "finished").stat().st_mode) == 0o700
    own = ("s1.000002.json", "s1.000002.safetensors")
    assert [stat.S_IMODE((personal / name).stat().st_mode) for name in own] == [0o600, 0o600]
    blobs = (f"{base.sha256}.safetensors", f"{last.model.sha256}.safetensors")
    assert {path.name for path in personal.iterdir()} == {*own, *blobs}
    assert not [path for path in (tmp_path / "finished").iterdir() if path.name.startswith("s1")]


def test_a_model_whose_download_was_interrupted_is_not_filed_with_the_state(tmp_path: Path) -> None:
    trained, last = task("s1", 2), task("s1", 2, "validate")
    (tmp_path / "models").mkdir()
    for held, data in ((trained.model, b"model"), (last.model, b"mo")):
        (tmp_path / "models" / f"{held.sha256}.safetensors").write_bytes(data)
    store = opened_at(tmp_path)
    train(store, "s1", 2)
    store.enter(last)
    store.forget("s1", None)
    [kept] = folder_of(tmp_path).states()
    assert kept.model == trained.model


def test_at_the_start_all_sessions_but_the_last_are_filed(tmp_path: Path) -> None:
    for session, at in (("s1", NOW - 2), ("s2", NOW - 1)):
        train(opened_at(tmp_path), session, 1, at=at)  # each as of a process that ended with its session
    folder = tmp_path / "finished"
    folder_of(tmp_path).state_of("s1", 9).rename(folder / "s1.000001.update.state")  # type: ignore[union-attr]
    opened_at(tmp_path).load()
    assert [kept.session for kept in folder_of(tmp_path).states()] == ["s1"]
    assert seen(opened_at(tmp_path), task("s2", 2)) == 1


def test_a_state_replaces_that_of_its_round_and_is_deleted_beside_one_of_a_later_round(tmp_path: Path) -> None:
    folder, left = folder_of(tmp_path), tmp_path / "left.state"
    (tmp_path / "models").mkdir()
    for number, package in ((9, PACKAGE), (9, OTHER_PACKAGE), *((number, PACKAGE) for number in range(1, 9))):
        (tmp_path / "models" / f"{task('s1', number).model.sha256}.safetensors").write_bytes(b"model")
        left.write_bytes(state_after(task("s1", number), package))
        os.utime(left, (NOW, NOW))
        folder.file(left, None)
        assert not left.exists()
    [kept] = folder.states()
    assert (kept.round, kept.package) == (9, OTHER_PACKAGE)
    names = {f"{kept.name}.json", folder.path(kept).name, folder.blob(kept.model).name}
    assert {path.name for path in folder.root.iterdir()} == names


@pytest.mark.parametrize(
    ("bounds", "left"),
    [
        ({"sessions": 2}, ["s4", "s3"]),
        ({"sessions": 0}, []),
        ({"days": 1.5}, ["s4"]),
        ({"days": 0}, []),
        ({}, ["s4", "s3", "s2"]),
    ],
)
def test_states_over_their_bounds_are_deleted_when_one_is_filed(
    tmp_path: Path, bounds: dict[str, Any], left: list[str]
) -> None:
    for number in (1, 2, 3, 4):
        store = opened_at(tmp_path, **bounds)
        train(store, f"s{number}", 1, at=NOW - (5 - number) * DAY)
        store.forget(f"s{number}", None)
    assert [kept.session for kept in folder_of(tmp_path).states()] == left
    names = {path.name.partition(".")[0] for path in (tmp_path / "personal").glob("*")}
    assert names == set(left)


def test_a_session_is_as_old_as_its_newest_state(tmp_path: Path) -> None:
    train(opened_at(tmp_path), "s1", 9, at=NOW)
    for number in range(1, 9):
        left = tmp_path / "finished" / f"s1.{number:06d}.update.state"
        left.write_bytes(b"an older one, left by a crash")
        os.utime(left, (NOW - 40 * DAY, NOW - 40 * DAY))
    opened_at(tmp_path).load()
    assert seen(opened_at(tmp_path), task("s1", 10)) == 9
    assert folder_of(tmp_path).states() == [], "it may be under way"


def test_states_over_their_days_are_deleted_at_the_start_also_those_of_the_last_session(tmp_path: Path) -> None:
    store = opened_at(tmp_path)
    train(store, "s1", 1, at=NOW)
    train(store, "s2", 1, at=NOW)
    opened_at(tmp_path, now=NOW + 29 * DAY).load()
    assert [kept.session for kept in folder_of(tmp_path).states()] == ["s1"]
    opened_at(tmp_path, now=NOW + 31 * DAY).load()
    assert not list((tmp_path / "personal").iterdir())
    assert not list((tmp_path / "finished").glob("*.state"))


def test_a_state_that_can_not_be_filed_costs_no_task_and_is_filed_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(opened_at(tmp_path), "s1", 1)
    (tmp_path / "personal").write_text("in the way")
    opened_at(tmp_path).forget("s1", None)
    assert start(opened_at(tmp_path), "s2").outcome == "fresh"
    assert "a private state can't be filed" in caplog.text
    (tmp_path / "personal").unlink()
    assert start(opened_at(tmp_path), "s3").session == "s1"


def test_with_nothing_kept_the_session_under_way_keeps_its_state_over_a_restart(tmp_path: Path) -> None:
    bounds = {"days": 0, "sessions": 0}
    train(opened_at(tmp_path, **bounds), "s1", 1)
    store = opened_at(tmp_path, **bounds)
    store.load()
    assert seen(store, task("s1", 2)) == 1


@pytest.mark.parametrize("text", ["", '{"outcome": "a word of tomorrow"}'])
def test_a_session_whose_beginning_can_not_be_read_begins_again(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "client" / "c1"
    train(opened_at(folder), "s1", 1)
    opened_at(folder).enter(task("s2", 1))
    assert start(opened_at(folder), "s2").session == "s1"
    (folder / "finished" / "s2.start.json").write_text(text)
    assert client_in(tmp_path, "c1").delete("s9") == ([], [])
    assert start(opened_at(folder), "s2").session == "s1"


# -- the site ---------------------------------------------------------------------------------------------------------


def test_a_site_deletes_the_state_of_an_open_session_only_while_its_client_is_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "client" / "c1"
    train(opened_at(folder), "s1", 1)
    opened_at(folder).enter(task("s2", 1))
    start(opened_at(folder), "s2")
    train(opened_at(folder), "s3", 1)
    with (folder / "lock").open("a") as lock:
        assert try_lock(lock)
        assert [sorted(names) for names in client_in(tmp_path, "c1").delete(None)] == [["s1"], ["s3"]]
        assert [state.kept.session for state in client_in(tmp_path, "c1").states()] == ["s3"]
    assert client_in(tmp_path, "c1").delete("s3") == (["s3"], [])
    assert [path.name for path in (folder / "finished").iterdir() if "state" in path.name] == []


def test_a_deleted_state_is_not_left_with_the_session_that_had_taken_it_up(tmp_path: Path) -> None:
    folder = tmp_path / "client" / "c1"
    train(opened_at(folder), "s1", 1)
    start(opened_at(folder), "s2")
    assert client_in(tmp_path, "c1").delete("s1") == (["s1"], [])
    assert list((folder / "finished").glob("*state")) == []
    assert start(opened_at(folder), "s2").outcome == "fresh"
