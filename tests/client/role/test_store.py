"""What a client keeps, in memory and in files: until when, and what another life finds of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmq_client.personal.folder import PersonalFolder, fetched_into
from fedmq_client.role.folder_store import FolderStore
from fedmq_client.role.operations import ModelScores, TaskKey, TaskResult
from fedmq_client.role.store import MemoryStore, Store
from fedmq_schemas.messages import PersonalStart

Open = Callable[[], Store]


@pytest.fixture(params=["memory", "folder"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens one and the same store, each time as a new life does."""
    if request.param == "folder":
        return lambda: folder_store(tmp_path)
    store = MemoryStore()
    return lambda: store


def folder_store(root: Path) -> FolderStore:
    return FolderStore(root / "kept", PersonalFolder(root / "personal", fetched_into(root / "models")))


def train(number: int, session: str = "s") -> TaskKey:
    return TaskKey(session, number, "train")


def finish(store: Store, key: TaskKey, state: bytes | None = None) -> None:
    """As the client's runner and a worker do."""
    path = store.begin(key)
    update: bytes | Path = b"update"
    kept: bytes | Path | None = state
    if path is not None:
        path.write_bytes(b"update")
        update = path
        if state is not None:
            kept = path.with_name(path.name + ".state")
            kept.write_bytes(state)
    store.keep(TaskResult(key, "done", 10, {"loss": 0.5}, update, seconds={"train": 1.5}), kept)


def content(blob: bytes | Path | None) -> bytes | None:
    return blob.read_bytes() if isinstance(blob, Path) else blob


def keys(store: Store) -> list[TaskKey]:
    return sorted(finished.key for finished in store.load())


def test_another_life_finds_what_was_finished(opened: Open) -> None:
    finish(opened(), train(1))
    [found] = opened().load()
    assert (found.key, found.outcome, found.examples) == (train(1), "done", 10)
    assert (found.metrics, found.seconds) == ({"loss": 0.5}, {"train": 1.5})
    assert content(found.update) == b"update"


def test_another_life_finds_the_scores_of_the_model_that_was_trained(opened: Open) -> None:
    scores = ModelScores(10, {"loss": 0.7}, ("m is not kept",))
    store = opened()
    path = store.begin(train(1))
    if path is not None:
        path.write_bytes(b"update")
    store.keep(TaskResult(train(1), "done", 10, update=path or b"update", scores=scores), None)
    [found] = opened().load()
    assert found.scores is not None
    assert (found.scores.examples, found.scores.metrics) == (10, {"loss": 0.7})
    assert tuple(found.scores.notes) == ("m is not kept",)


def test_all_files_of_an_ended_session_are_deleted(tmp_path: Path) -> None:
    store = folder_store(tmp_path)
    path = store.begin(train(1))
    assert path is not None
    path.write_bytes(b"update")
    store.keep(TaskResult(train(1), "done", 1, update=path, scores=ModelScores(1, {"loss": 0.7})), None)
    assert len(list(tmp_path.rglob("s.*"))) == 3
    store.forget("s", None)
    assert list(tmp_path.rglob("s.*")) == []


def test_an_update_stays_until_a_training_of_a_later_round_begins(opened: Open) -> None:
    store = opened()
    finish(store, train(1))
    store.begin(train(1))
    assert keys(opened()) == [train(1)]
    store.begin(train(2))
    assert keys(opened()) == []


def test_a_training_leaves_other_sessions_alone(opened: Open) -> None:
    store = opened()
    finish(store, train(1, "other"), b"theirs")
    finish(store, train(5))
    assert keys(opened()) == [train(1, "other"), train(5)]
    assert content(opened().state(train(2, "other"))) == b"theirs"


def test_the_state_is_that_of_the_newest_training_before(opened: Open) -> None:
    store = opened()
    assert store.state(train(1)) is None
    finish(store, train(1), b"one")
    finish(store, train(2), b"two")
    assert content(opened().state(train(2))) == b"one"
    assert content(opened().state(train(3))) == b"two"
    assert content(opened().state(TaskKey("s", 3, "validate"))) == b"two"


def test_a_training_that_does_not_finish_leaves_the_state_before(opened: Open) -> None:
    store = opened()
    finish(store, train(1), b"one")
    store.begin(train(2))
    store.begin(train(3))
    assert content(opened().state(train(3))) == b"one"


def test_a_training_that_leaves_no_state_ends_the_one_before(opened: Open) -> None:
    store = opened()
    finish(store, train(1), b"one")
    finish(store, train(2))
    assert content(opened().state(train(2))) == b"one"
    assert opened().state(train(3)) is None
    finish(store, train(3), b"three")
    assert content(opened().state(train(9))) == b"three"


def test_a_session_that_is_over_leaves_nothing(opened: Open, tmp_path: Path) -> None:
    store = opened()
    finish(store, train(1), b"one")
    finish(store, train(2), b"two")
    finish(store, train(7, "other"))
    store.forget("s", None)
    assert keys(opened()) == [train(7, "other")]
    assert opened().state(train(3)) is None
    assert not list(tmp_path.glob("kept/s.*"))


def test_what_was_cut_off_is_not_finished(tmp_path: Path) -> None:
    """The outcome is written last: without it an update is not one."""
    path = folder_store(tmp_path).begin(train(1))
    assert path is not None
    path.write_bytes(b"half an upd")
    assert folder_store(tmp_path).load() == []
    folder_store(tmp_path).begin(train(2))
    assert not path.exists()


def _kept(root: Path) -> Path:
    """Keeps an update of round 1, and returns the path of its result file."""
    finish(folder_store(root), train(1))
    [path] = (root / "kept").glob("*.json")
    return path


def test_an_update_that_a_newer_version_kept_is_read_without_its_unknown_fields(tmp_path: Path) -> None:
    path = _kept(tmp_path)
    newer = {"field_of_tomorrow": [1], "personal": {"outcome": "fresh", "field_of_tomorrow": 1}}
    path.write_text(json.dumps(json.loads(path.read_text()) | newer))
    [found] = folder_store(tmp_path).load()
    assert found.personal == PersonalStart(outcome="fresh")
    assert (found.key, found.metrics, content(found.update)) == (train(1), {"loss": 0.5}, b"update")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"key": ["s", 1, "train"]}',
        '{"key": 1}',
        '{"key": ["s", 1, "train"], "personal": {"outcome": "?"}}',
        '{"key": ["s", 1, "train"], "outcome": "maybe"}',
        '{"key": ["s", "one", "train"], "outcome": "done"}',
        '{"key": ["s", 1, "train"], "outcome": "done", "examples": "many"}',
        '{"key": ["s", 1, "train"], "outcome": "done", "metrics": [1]}',
        '{"key": ["s", 1, "train"], "outcome": "done", "notes": 5}',
    ],
)
def test_an_update_whose_result_can_not_be_read_is_trained_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    _kept(tmp_path).write_text(text)
    store = folder_store(tmp_path)
    assert store.load() == []
    assert "a kept update can't be read" in caplog.text
    finish(store, train(1))
    assert keys(folder_store(tmp_path)) == [train(1)]
