"""Values beyond the limits of `fedmq_schemas.bounds` are refused with a reason where they arrive, and harm nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bad_input.alliance import COMBINER, STRANGER, Alliance, Stranger, assert_unharmed, delta, only_train
from fedmq import codec
from fedmq.errors import ProtocolError
from fedmq_schemas import topology
from fedmq_schemas.messages import TaskMessage

NAN = float("nan")
UPDATES: dict[str, tuple[dict[str, Any], str]] = {
    "a duration that is NaN, which ended the session": ({"seconds": {"train": NAN}}, "seconds.train"),
    "a duration of less than 0": ({"seconds": {"train": -1.0}}, "seconds.train"),
    "NUL in the name of a duration, which ended a committed session": ({"seconds": {"tr\0ain": 1.0}}, "seconds.tr"),
    "NUL in the name of a metric, which ended the session": ({"metrics": {"lo\0ss": 1.0}}, "metrics.lo␀ss: "),
    "a metric whose sum overflows, which let the session hang": ({"metrics": {"loss": 1.7e308}}, "metrics.loss"),
    "a raw NaN": ({"metrics": {"loss": NAN}}, "metrics.loss: nan is no finite number of at most 1e+100"),
    "a NaN inside of a metric": ({"metrics": {"by": {"class": [NAN]}}}, "metrics.by: nan is no finite number"),
    "an integer of 65 bits": ({"metrics": {"loss": 2**63}}, "metrics.loss: an integer does not fit into 64 bits"),
    "a weight beyond exact numbers": ({"weight": 2**53}, "weight"),
    "a note with NUL": ({"notes": ["a\0b"]}, "notes.0"),
}


def sends(changes: dict[str, Any]) -> Callable[[Stranger, TaskMessage], None]:
    return only_train(lambda stranger, task: stranger.answer(task, delta(), **changes))


@pytest.mark.parametrize("row", UPDATES)
def test_an_update_with_a_value_beyond_the_limits_is_a_dead_letter_that_names_it(tmp_path: Path, row: str) -> None:
    changes, words = UPDATES[row]
    alliance = Alliance(tmp_path, on_task=sends(changes))
    assert_unharmed(alliance, alliance.run())
    assert len(alliance.dead) == 2 and all(f"update message: {words}" in reason for reason in alliance.dead)
    assert alliance.outcomes()[STRANGER] == ("absent", "no answer by the deadline")
    assert alliance.events("update.accepted", client=STRANGER) == []


def test_a_validation_with_nul_in_the_name_of_a_metric_is_a_dead_letter(tmp_path: Path) -> None:
    """Its record was refused by MongoDB, and the message came again for ever."""

    def answer(stranger: Stranger, task: TaskMessage) -> None:
        body = {"plan": task.plan.model_dump(), "model": task.model.key, "scope": "client", "weight": 1}
        packed = stranger.alliance.pack("validation", {**body, "metrics": {"lo\0ss": 1.0}})
        stranger.send(packed, to=topology.REDUCER)

    alliance = Alliance(tmp_path, on_task=only_train(answer))
    assert_unharmed(alliance, alliance.run())
    assert [reason.partition(": ")[0] for reason in alliance.dead] == ["validation message"] * 2
    assert alliance.events("model.validated", client=STRANGER) == []


@pytest.mark.parametrize(
    "labels", [{"si\0te": "x"}, {"site": "x\0"}, {"site": "x" * 257}, {f"l{n}": "" for n in range(65)}], ids=repr
)
def test_an_attach_with_labels_beyond_the_limits_is_a_dead_letter(tmp_path: Path, labels: dict[str, str]) -> None:
    """Fifty of these stopped the reducer: their records were refused, and they came again for ever."""
    alliance = Alliance(tmp_path, on_task=None)
    key = topology.assignment_request_key(STRANGER)
    alliance.publish("assignment", key, alliance.pack("attach", {"labels": labels}))
    assert_unharmed(alliance, alliance.run())
    assert len(alliance.dead) == 1 and "attach message: labels" in alliance.dead[0]


def test_a_clock_beyond_all_years_is_refused(tmp_path: Path) -> None:
    alliance = Alliance(tmp_path, on_task=None)
    body = alliance.pack("client_presence", {}, sent_at=1e308)
    alliance.publish("update", topology.update_key(COMBINER, STRANGER), body)
    assert_unharmed(alliance, alliance.run())
    assert len(alliance.dead) == 1 and "client_presence message: sent_at" in alliance.dead[0]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("wait", {"seconds": 2**63, "reason": ""}),
        ("wait", {"seconds": float("inf"), "reason": ""}),
        ("grant", {"combiner": "k1", "ordinal": 0, "count": 1, "presence": 2**63}),
        ("welcome", {"epoch": 1, "presence": float("inf")}),
        ("duplicate_client", {"continues": "\U0001f600" * 64, "other": ""}),
        ("client_hello", {"instance": "\U0001f600" * 64}),
    ],
)
def test_a_time_or_name_that_ended_a_process_is_refused(kind: str, body: dict[str, Any]) -> None:
    """A timer of 2^63 seconds, and an event id of more than 255 bytes, raised an exception that nothing caught."""
    envelope = {"kind": kind, "version": 1, "id": "m1", "alliance": "a", "sender": "s", "sent_at": 0.0}
    with pytest.raises(ProtocolError, match=rf"{kind} message: (seconds|presence|continues|instance)"):
        codec.decode(codec.encode(envelope, body), codec.MSGPACK, message_id="m1", alliance="a")
