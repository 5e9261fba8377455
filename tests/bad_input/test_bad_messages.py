"""Messages that break the contract: each is a dead letter, an event reports its reason, and no other client is affected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from bad_input.alliance import (
    ALLIANCE,
    COMBINER,
    GOOD,
    SESSION,
    STRANGER,
    Alliance,
    Stranger,
    assert_unharmed,
    delta,
    only_train,
)
from fedmq.codec import JSON, MSGPACK
from fedmq.errors import LONGEST_REASON
from fedmq_schemas import topology
from fedmq_schemas.messages import MAX_BODY, ClientHello, Progress, TaskMessage

Pack = Callable[[Alliance], bytes]

ROWS: dict[str, tuple[Pack, str, str]] = {
    "bytes that are no msgpack": (lambda a: b"\xc1\xff\x00garbage", MSGPACK, "the body is not msgpack"),
    "nothing at all": (lambda a: b"", MSGPACK, "the body is not msgpack"),
    "bytes that are no JSON": (lambda a: b'{"kind": ', JSON, "the body is not JSON"),
    "JSON that is no map": (lambda a: b'["attach"]', JSON, "not a map"),
    "msgpack that is no map": (lambda a: msgpack.packb(7), MSGPACK, "not a map"),
    "a map whose keys are no text": (lambda a: msgpack.packb({1: 2}), MSGPACK, "not msgpack"),
    "JSON that is nested without end": (lambda a: b"[" * 60_000, JSON, "the body is not JSON"),
    "an unknown kind": (lambda a: a.pack("attack", {}), MSGPACK, "unknown kind 'attack'"),
    "a kind of 50,000 NULs": (lambda a: a.pack("\x00" * 50_000, {}), MSGPACK, r"unknown kind '\x00"),
    "a version of 50,000 letters": (
        lambda a: a.pack("client_hello", {}, version="9" * 50_000),
        MSGPACK,
        "this program speaks 1",
    ),
    "another alliance of 50,000 letters": (
        lambda a: a.pack("client_hello", {}, alliance="o" * 50_000),
        MSGPACK,
        "alliance: String should have at most 255 characters",
    ),
    "a sender of 50,000 letters": (
        lambda a: a.pack("client_hello", {}, sender="s" * 50_000),
        MSGPACK,
        "sender: String should have at most 255 characters",
    ),
    "an id of 200 letters of four bytes": (
        lambda a: a.pack("client_hello", [], message_id="\N{PILE OF POO}" * 200),
        MSGPACK,
        "client_hello message",
    ),
    "no kind": (lambda a: a.pack(None, {}), MSGPACK, "unknown kind None"),
    "a newer version": (lambda a: a.pack("client_hello", {}, version=2), MSGPACK, "version 2 of client_hello"),
    "another alliance": (lambda a: a.pack("client_hello", {}, alliance="other"), MSGPACK, "alliance 'other'"),
    "an oversize body": (
        lambda a: a.pack("client_hello", {"labels": {"x": "y" * MAX_BODY}}),
        MSGPACK,
        f"over the limit of {MAX_BODY}",
    ),
    "a body of another shape": (lambda a: a.pack("client_hello", [1, 2]), MSGPACK, "client_hello message"),
    "an envelope of another shape": (lambda a: a.pack("client_hello", {}, sent_at="now"), MSGPACK, "sent_at"),
}

ADDRESSES = {
    "reducer": ("assignment", topology.assignment_request_key(STRANGER)),
    "combiner": ("update", topology.update_key(COMBINER, STRANGER)),
}


@pytest.mark.parametrize("inbox", ADDRESSES)
@pytest.mark.parametrize("row", ROWS)
def test_a_message_that_breaks_the_contract_is_a_dead_letter_with_its_reason(
    tmp_path: Path, row: str, inbox: str
) -> None:
    pack, content_type, words = ROWS[row]
    exchange, key = ADDRESSES[inbox]
    alliance = Alliance(tmp_path, on_task=None)
    alliance.start()
    alliance.publish(exchange, key, pack(alliance), content_type=content_type)
    assert_unharmed(alliance, alliance.finish())
    assert len(alliance.dead) == 1 and words in alliance.dead[0] and len(alliance.dead[0]) <= LONGEST_REASON
    reported = alliance.events("message.refused")
    assert [event["data"]["reason"] for event in reported] == alliance.dead
    assert reported[0]["data"]["key"] == key and reported[0]["cause"]


def test_what_an_observer_sees_as_json_may_hold_numbers_and_texts_that_msgpack_can_not(tmp_path: Path) -> None:
    """If it were accepted, every component that reports it would fail."""
    alliance = Alliance(tmp_path, on_task=None)
    for value in (2**80, "\ud800"):
        start = {"kind": "start", "id": "poison", "body": {"policy": {"train": {"x": value}}}}
        body = json.dumps(start).encode()
        alliance.publish("control", topology.control_key("start"), body, content_type=JSON)
    assert_unharmed(alliance, alliance.run())
    assert len(alliance.dead) == 2 and all("not JSON" in reason for reason in alliance.dead)


def test_a_sender_that_is_not_the_account_is_refused(tmp_path: Path) -> None:
    alliance = Alliance(tmp_path, on_task=None)
    body = alliance.pack("client_presence", {"leaving": True}, sender=GOOD[0])
    alliance.publish("update", topology.update_key(COMBINER, GOOD[0]), body)
    assert_unharmed(alliance, alliance.run())
    assert alliance.dead == [f"client_presence message names the sender {GOOD[0]!r}, the broker names {STRANGER!r}"]


def test_a_message_in_a_clients_mailbox_that_is_not_for_clients_is_a_dead_letter(tmp_path: Path) -> None:
    alliance = Alliance(tmp_path, on_task=None)
    alliance.publish("task", topology.task_key(GOOD[0]), alliance.pack("client_hello", {}))
    assert_unharmed(alliance, alliance.run())
    assert alliance.dead == [f"a client_hello message does not go to {topology.task_key(GOOD[0])!r}"]


def test_what_is_no_event_on_the_event_exchange_is_not_recorded(tmp_path: Path) -> None:
    alliance = Alliance(tmp_path, on_task=None)
    alliance.publish("event", "event.-.round.committed", alliance.pack("client_hello", {}))
    alliance.publish("event", "event.-.round.committed", b"\xc1")
    assert_unharmed(alliance, alliance.run())
    assert len(alliance.dead) == 2


@pytest.mark.parametrize("value", [b"\xff\xfe", msgpack.ExtType(5, b"x"), msgpack.Timestamp(1)], ids=repr)
def test_metrics_that_json_can_not_say_are_refused_at_the_edge(tmp_path: Path, value: object) -> None:
    """Folded, they would spoil the ledger, and so everybody's work in this round."""
    alliance = Alliance(tmp_path, on_task=only_train(lambda s, t: s.answer(t, delta(), metrics={"x": value})))
    assert_unharmed(alliance, alliance.run())
    assert len(alliance.dead) == 2 and all("update message: metrics.x" in reason for reason in alliance.dead)


@pytest.mark.parametrize("levels", [101, 400])
def test_metrics_nested_too_deep_are_refused_at_the_edge_with_a_short_reason(tmp_path: Path, levels: int) -> None:
    deep: list[Any] = []
    for _ in range(levels - 1):
        deep = [deep]
    alliance = Alliance(tmp_path, on_task=only_train(lambda s, t: s.answer(t, delta(), metrics={"x": deep})))
    assert_unharmed(alliance, alliance.run())
    assert len(alliance.dead) == 2 and all(len(reason) < 1000 for reason in alliance.dead)


def test_a_message_that_just_fits_is_told_without_its_data_if_the_event_would_not(tmp_path: Path) -> None:
    """The event that rejects the update says more than the update did; the round must not fail of it."""

    def answer(stranger: Stranger, task: TaskMessage) -> None:
        update = stranger.update(task, stranger.alliance.blobs.put("models/else", delta()))
        room = MAX_BODY - len(stranger.alliance.pack("update", update.model_dump())) - 10
        stranger.send(update.model_copy(update={"metrics": {"loss": "x" * room}}))

    alliance = Alliance(tmp_path, on_task=only_train(answer))
    assert_unharmed(alliance, alliance.run())
    reported = alliance.events("update.rejected", client=STRANGER)
    assert len(reported) == 2
    assert "is not under" in reported[0]["data"]["reason"] and f"limit of {MAX_BODY}" in reported[0]["data"]["left_out"]
    assert alliance.outcomes()[STRANGER][0] == "rejected"


def test_progress_that_is_no_fraction_is_refused(tmp_path: Path) -> None:
    def answer(stranger: Stranger, task: TaskMessage) -> None:
        proper = Progress(plan=task.plan, fraction=0.5)
        stranger.send(proper.model_copy(update={"fraction": 1.5}))
        stranger.answer(task, delta())

    alliance = Alliance(tmp_path, on_task=only_train(answer))
    assert_unharmed(alliance, alliance.run())
    assert all("progress message: fraction" in reason for reason in alliance.dead)


def test_a_hello_of_a_client_that_nobody_granted_changes_nothing(tmp_path: Path) -> None:
    alliance = Alliance(tmp_path, on_task=None)
    body = alliance.pack("client_hello", ClientHello().model_dump(), sender="nobody")
    alliance.publish("update", topology.update_key(COMBINER, "nobody"), body, user="nobody")
    assert_unharmed(alliance, alliance.run())
    assert set(alliance.outcomes()) == set(GOOD)


def test_the_dead_letter_keeps_the_message_and_where_it_came_from(tmp_path: Path) -> None:
    alliance = Alliance(tmp_path, on_task=None)
    body = alliance.pack("attack", {"x": 1})
    alliance.publish("update", topology.update_key(COMBINER, STRANGER), body)
    alliance.settle(1.0)
    letter = alliance.letters[0]
    assert letter.body == body
    assert letter.routing_key == ALLIANCE.combiner(COMBINER).name
    assert letter.headers["x-fedmq-routing-key"] == topology.update_key(COMBINER, STRANGER)
    assert letter.headers["x-fedmq-sender"] == STRANGER


@pytest.mark.parametrize(
    "message_id", ["a\0b", "x" * 255, "\N{PILE OF POO}" * 60], ids=["NUL", "long", "long in bytes"]
)
def test_a_refusal_is_reported_whatever_id_the_message_has_in_amqp(tmp_path: Path, message_id: str) -> None:
    """The event named the id as its cause, was refused itself, and took the events beside it with it."""
    alliance = Alliance(tmp_path, on_task=None)
    key = topology.update_key(COMBINER, STRANGER)
    for number, bad in enumerate((b"\xc1", b"\xc1")):
        alliance.publish("update", key, bad, message_id=message_id if number else "")
    alliance.settle(1.0)
    assert len(alliance.dead) == 2 and alliance.reasons("message.refused") == alliance.dead


def test_a_refusal_is_reported_whatever_key_the_message_has(tmp_path: Path) -> None:
    """RabbitMQ 3 delivers by the header CC, and the first key may hold NUL, which the event repeated."""
    alliance = Alliance(tmp_path, on_task=None)
    alliance.publish("update", f"update.{COMBINER}.a\0b", b"\xc1")
    alliance.settle(1.0)
    assert len(alliance.dead) == 1 and alliance.reasons("message.refused") == alliance.dead


def test_an_event_of_a_client_does_not_take_the_place_of_a_servers_event(tmp_path: Path) -> None:
    """The end of the session was not recorded, as an event with its id, which can be guessed, was there already."""
    alliance = Alliance(tmp_path, on_task=None)
    for name in ("queued", "started", "ended"):
        body = {"name": "message.refused", "session": None, "data": {"reason": "x"}}
        alliance.publish(
            "event", "event.-.message.refused", alliance.pack("event", body, message_id=f"{name}-{SESSION}")
        )
    assert_unharmed(alliance, alliance.run())
    assert len(alliance.events("session.finished")) == 1
    assert sorted(event["id"] for event in alliance.events("message.refused")) == [
        f"{STRANGER}:{name}-{SESSION}" for name in ("ended", "queued", "started")
    ]
