"""Fuzzed messages of one account harm nobody, and a limit that is taken away is found by them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from fedmq import codec, errors
from fedmq.errors import ProtocolError
from fedmq.runtime.peers.sender_check import SenderCheck
from fedmq_schemas import limits
from fuzz.messages import Hostile, Names, Sent, pack
from fuzz.run import again, fuzz
from fuzz.smallest import smallest
from fuzz.values import Values, kinds

NAMES = Names("sim", "hostile", ["client1"], ["combiner1"], ["session1"])


def harm(seed: int, messages: int) -> list[str]:
    return fuzz(seed, messages).faults


def test_2_000_messages_of_one_account_harm_nobody() -> None:
    found = harm(1, 2000)
    assert not found, "\n".join([*found, again(1)])


@pytest.mark.real
@pytest.mark.parametrize("seed", range(8))
def test_20_000_messages_of_one_account_harm_nobody(seed: int) -> None:
    """`make fuzz` sends more."""
    found = harm(seed, 2500)
    assert not found, "\n".join([*found, again(seed)])


def _nul_is_allowed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(limits, "check_text", lambda text, longest: None)


def _integers_have_no_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(limits, "LARGEST_INTEGER", 2**70)


def _reasons_are_not_cut(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(errors, "LONGEST_REASON", 100_000)


def _addresses_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SenderCheck, "check", lambda self, delivery, envelope: None)


@pytest.mark.real
@pytest.mark.parametrize(
    ("bug", "words"),
    [
        (_nul_is_allowed, "a record is refused"),
        (_integers_have_no_limit, "a record is refused"),
        (_reasons_are_not_cut, "has the reason"),
        (_addresses_are_not_checked, ""),
    ],
)
def test_a_limit_that_is_taken_away_is_found(
    bug: Callable[[pytest.MonkeyPatch], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    assert any(words in fault for seed in (2, 3) for fault in harm(seed, 2000))


def test_the_same_seed_draws_the_same_messages() -> None:
    first, second = Hostile(7, NAMES), Hostile(7, NAMES)
    drawn = [first.draw() for _ in range(300)]
    assert drawn == [second.draw() for _ in range(300)]
    assert len({message.body for message in drawn}) > 290


@pytest.mark.parametrize("kind", kinds())
def test_most_bodies_that_are_drawn_from_a_schema_are_valid(kind: str) -> None:
    """Else the messages would be refused at the edge, and no core would receive one."""
    values = Values(random.Random(3), {})
    envelope = {"kind": kind, "version": 1, "id": "m", "alliance": "sim", "sender": "s", "sent_at": 0.0}
    refused = []
    for _ in range(60):
        data, content_type = pack(envelope | {"body": values.body(kind)})
        try:
            codec.decode(data, content_type, message_id="m", alliance="sim")
        except ProtocolError as error:
            refused.append(error.reason)
    assert len(refused) < 40, refused[:5]


def test_what_fails_is_made_small() -> None:
    def sent(number: int, **fields: Any) -> tuple[float, Sent]:
        return float(number), Sent("update", "k", msgpack.packb({"n": number, **fields}), codec.MSGPACK, f"m{number}")

    messages = [sent(number, body={"bad": number % 40 == 17, "else": [1, {"x": 2}]}) for number in range(100)]
    found = smallest(messages, lambda each: sum(b"\xa3bad\xc3" in message.body for _, message in each) >= 2)
    assert [msgpack.unpackb(message.body) for _, message in found] == [{"body": {"bad": True}}] * 2
