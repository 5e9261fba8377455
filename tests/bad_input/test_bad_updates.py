"""Updates that must not enter a sum: each costs itself only, and its reason is in the ledger and in an event."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bad_input.alliance import (
    GOOD,
    POLICY,
    STRANGER,
    Alliance,
    Stranger,
    assert_unharmed,
    delta,
    only_train,
)
from fedmq import tensors
from fedmq_schemas.messages import BlobRef, TaskMessage

W = np.ones(3, np.float32)
Answer = Callable[[Stranger, TaskMessage], None]


def blob(**changes: object) -> Answer:
    return lambda stranger, task: stranger.answer(task, delta(**changes))


def referring(**changes: object) -> Answer:
    """A proper blob, and a reference that says something else."""

    def answer(stranger: Stranger, task: TaskMessage) -> None:
        ref = stranger.upload(task, delta())
        stranger.send(stranger.update(task, ref.model_copy(update=changes)))

    return answer


def cut(stranger: Stranger, task: TaskMessage) -> None:
    stranger.answer(task, delta()[:-5])


def oversize(stranger: Stranger, task: TaskMessage) -> None:
    stranger.send(stranger.update(task, BlobRef(key=task.upload_key, size=10**9, sha256="0" * 64)))


def missing(stranger: Stranger, task: TaskMessage) -> None:
    data = delta()
    ref = BlobRef(key=task.upload_key, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    stranger.send(stranger.update(task, ref))


def foreign(stranger: Stranger, task: TaskMessage) -> None:
    key = task.upload_key.replace(STRANGER, GOOD[0])
    stranger.send(stranger.update(task, stranger.alliance.blobs.put(key, delta())))


def others_model(stranger: Stranger, task: TaskMessage) -> None:
    stranger.send(stranger.update(task, task.model))


REJECTED: dict[str, tuple[Answer, str]] = {
    "NaN": (blob(w=np.array([1, np.nan, 1], np.float32)), "tensor 'w' holds NaN"),
    "infinity": (blob(b=np.full((2, 2), np.inf, np.float32)), "tensor 'b' holds infinity"),
    "a missing name": (blob(w=None), "lacks 'w'"),
    "an unknown name": (blob(v=W), "the unknown 'v'"),
    "wrong names": (blob(w=None, v1=W, v2=W, v3=W, v4=W), "the unknown 'v1', 'v2', 'v3' and 1 more"),
    "a wrong shape": (blob(w=np.ones(4, np.float32)), "shape"),
    "a wrong dtype": (blob(w=np.ones(3, np.int32)), "int32"),
    "a truncated blob": (cut, "truncated"),
    "bytes that are no safetensors": (lambda s, t: s.answer(t, b"PK\x03\x04" * 100), "not safetensors"),
    "an empty blob": (lambda s, t: s.answer(t, b""), "truncated"),
    "a missing blob": (missing, "is not in the store"),
    "a wrong sha256": (referring(sha256="0" * 64), "announced was 000000000000"),
    "a wrong size": (referring(size=3), "announced were 3"),
    "an oversize blob": (oversize, "larger than an update of this model can be"),
    "a blob under another client's key": (foreign, "is not under"),
    "the model's own key": (others_model, "is not under"),
}


@pytest.mark.parametrize("row", REJECTED)
def test_an_invalid_update_is_rejected_with_its_reason_and_nobody_else_is_touched(tmp_path: Path, row: str) -> None:
    answer, words = REJECTED[row]
    alliance = Alliance(tmp_path, on_task=only_train(answer))
    session = alliance.run()
    assert_unharmed(alliance, session)
    for number in (1, 2):
        outcome, reason = alliance.outcomes(number)[STRANGER]
        assert outcome == "rejected" and words in reason
        assert words in alliance.reasons("update.rejected", client=STRANGER, round=number)[0]
    assert alliance.dead == []


def test_a_large_update_that_is_cut_short_is_rejected_like_a_small_one(tmp_path: Path) -> None:
    """Large blobs pass through files, which is another way to the same verdict."""
    shape = (600, 500)
    trainer = "def train(weights, task):\n    return {name: value + 1 for name, value in weights.items()}, 10, {}\n"

    def answer(stranger: Stranger, task: TaskMessage) -> None:
        stranger.answer(task, tensors.encode({"w": np.ones(shape, np.float32)}, {})[:-4096])

    alliance = Alliance(tmp_path, trainer=trainer, on_task=only_train(answer))
    alliance.blobs.put("models/large", tensors.encode({"w": np.zeros(shape, np.float32)}, {}))
    session = alliance.run(POLICY.model_copy(update={"seed": "large", "rounds": 1, "validation": "none"}))
    assert session["state"] == "finished"
    assert alliance.outcomes()[STRANGER][0] == "rejected" and "truncated" in alliance.outcomes()[STRANGER][1]
    assert np.array_equal(alliance.model()["w"], np.ones(shape, np.float32))


@pytest.mark.parametrize("weight", [0, -5, 2**53, 2**63, 1.5, "many"], ids=str)
def test_an_update_whose_weight_is_no_weight_is_a_dead_letter_and_its_client_is_absent(
    tmp_path: Path, weight: object
) -> None:
    alliance = Alliance(tmp_path, on_task=only_train(lambda s, t: s.answer(t, delta(), weight=weight)))
    session = alliance.run()
    assert_unharmed(alliance, session)
    assert alliance.outcomes()[STRANGER] == ("absent", "no answer by the deadline")
    assert len(alliance.dead) == 2 and all("update message: weight" in reason for reason in alliance.dead)
    assert alliance.reasons("message.refused") == alliance.dead


def test_an_update_after_its_round_is_discarded_with_an_event(tmp_path: Path) -> None:
    """Replayed in the next round, and again when the session has ended."""

    def answer(stranger: Stranger, task: TaskMessage) -> None:
        old = stranger.tasks[0]
        stranger.answer(old, delta(w=(1 if task is old else 100) * W))
        if task is not old:
            stranger.answer(task, delta())

    alliance = Alliance(tmp_path, on_task=only_train(answer))
    assert_unharmed(alliance, alliance.run())
    assert len(alliance.reasons("update.discarded", client=STRANGER)) == 1
    stranger = alliance.stranger
    assert stranger is not None
    stranger.answer(stranger.tasks[1], delta())
    alliance.settle(5.0)
    assert "no such plan is open here" in alliance.reasons("update.discarded", client=STRANGER)[-1]
