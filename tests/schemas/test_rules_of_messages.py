"""Rules of `schemas/README.md` that concern single messages, and hashes that a program in another language computes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgpack
import pytest

from fedmq import codec
from fedmq.brokers.base import Delivery
from fedmq.errors import ProtocolError
from fedmq.runtime.peers.sender_check import SenderCheck
from fedmq_client.packages.package import load
from fedmq_combiner.documents import task_seed
from fedmq_reducer.members.eligibility import ineligible_because
from fedmq_schemas.policy import Policy
from fedmq_schemas.routes import ROUTES
from fedmq_schemas.topology import Topology, event_key

ALLIANCE = Topology("north")
PACKAGE = Path(__file__).parents[2] / "examples" / "numpy_regression" / "client"


def delivery(document: dict[str, Any], key: str, user: str) -> Delivery:
    exchange = ALLIANCE.exchange(key.partition(".")[0])
    return Delivery(
        1, ALLIANCE.reducer().name, exchange, key, msgpack.packb(document), "m1", codec.MSGPACK, False, user
    )


def test_a_message_needs_no_more_of_its_envelope_than_its_kind() -> None:
    data = msgpack.packb({"kind": "attach"})
    envelope = codec.decode(data, codec.MSGPACK, message_id="m1", alliance="north", user="c1").envelope
    assert (envelope.id, envelope.alliance, envelope.sender, envelope.version) == ("m1", "north", "c1", 1)
    assert envelope.sent_at == 0
    with pytest.raises(ProtocolError):
        codec.decode(data, codec.MSGPACK, message_id="", alliance="north", user="c1")


def test_no_content_type_counts_as_msgpack() -> None:
    data = msgpack.packb({"kind": "inquiry"})
    assert codec.decode(data, "", message_id="m1", alliance="north").envelope.kind == "inquiry"


def test_with_a_shared_account_the_address_names_the_sender() -> None:
    check = SenderCheck(ALLIANCE.reducer(), ALLIANCE, "guest")
    own = delivery({"kind": "attach", "sender": "c1"}, "assignment.reducer.c1", "guest")
    assert check.decode(own).envelope.sender == "c1"
    other = delivery({"kind": "attach", "sender": "c1"}, "assignment.reducer.c2", "guest")
    with pytest.raises(ProtocolError, match="was published as 'c2'"):
        check.decode(other)


def test_with_an_account_of_its_own_a_client_is_named_as_its_account() -> None:
    check = SenderCheck(ALLIANCE.reducer(), ALLIANCE, "guest")
    assert check.decode(delivery({"kind": "attach"}, "assignment.reducer.c1", "c1")).envelope.sender == "c1"
    with pytest.raises(ProtocolError, match="the broker names 'c1'"):
        check.decode(delivery({"kind": "attach", "sender": "c2"}, "assignment.reducer.c2", "c1"))


def test_the_address_of_an_event_ends_in_its_name() -> None:
    assert event_key(None, "message.refused") == "event.-.message.refused"
    assert all("{name}" in route.key for route in ROUTES if route.kind in ("event", "events"))


def test_the_seed_of_a_task_has_31_bits() -> None:
    assert all(0 <= task_seed(seed, 1, "c1") < 2**31 for seed in (-(2**63), 0, 2**63 - 1))


def test_a_client_of_another_package_takes_no_part() -> None:
    def why(wanted: str | None, stated: str | None) -> str:
        return ineligible_because(Policy(package=wanted), "c1", {}, stated, True)

    assert why(None, None) == why(None, "b" * 64) == why("a" * 64, "a" * 64) == ""
    assert why("a" * 64, None) and why("a" * 64, "b" * 64)


def test_the_hash_of_a_package_can_be_computed_from_the_rule(tmp_path: Path) -> None:
    for name, text in {"fedn.yaml": "trainer: b.py", "b.py": "", "a/c.txt": "ä", "data/x": "1", ".hidden": "1"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    digest = hashlib.sha256()
    for name in ("a/c.txt", "b.py", "fedn.yaml"):
        content = (tmp_path / name).read_bytes()
        digest.update(name.encode() + b"\0" + str(len(content)).encode() + b"\0" + content)
    assert load(tmp_path).sha256 == digest.hexdigest()
