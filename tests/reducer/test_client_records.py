"""Clients as records: a reducer that takes over knows each client as the one before it did."""

from __future__ import annotations

import pytest

from fedmq_reducer.membership import ClientMember


@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize("ordinal", [0, None])
def test_a_client_is_restored_from_its_record(present: bool, ordinal: int | None) -> None:
    client = ClientMember(
        "client1", {"site": "north"}, ("train", "validate"), 7, "a" * 64, "fedmq 1", "combiner1", ordinal,
        present=present, last_seen=4.0,
    )  # fmt: skip
    assert ClientMember.of(client.record()) == client


def test_the_record_of_a_client_is_written_as_plain_data() -> None:
    client = ClientMember("client1", {"site": "north"}, ("validate",), 7, None, "", "combiner1", None, last_seen=4.0)
    assert client.record().document() == {
        "client": "client1", "labels": {"site": "north"}, "tasks": ["validate"], "weight": 7, "package": None,
        "software": "", "combiner": "combiner1", "ordinal": None, "state": "away", "last_seen": 4.0,
    }  # fmt: skip
