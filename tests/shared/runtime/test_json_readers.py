"""A client that attaches in JSON is answered in JSON, also after the reducer or the combiner has started again."""

from __future__ import annotations

import json

from fedmq import codec
from fedmq.codec import JSON, MSGPACK, Message
from fedmq.runtime.peers.json_readers import JsonReaders
from fedmq_schemas.messages import Attach, Body, ClientHello, ClientPresence, Envelope


def message(body: Body) -> Message:
    return Message(Envelope(kind=body.kind, id="m1", alliance="north", sender="c1", sent_at=1.0), body)


def test_the_encoding_of_attach_and_hello_decides_on_that_of_the_answers_to_this_client() -> None:
    readers = JsonReaders()
    readers.note(message(ClientPresence()), True)
    assert readers.content_type("assignment", "assignment.c1") == MSGPACK
    readers.note(message(Attach()), True)
    assert readers.content_type("assignment", "assignment.c1") == JSON
    assert readers.content_type("task", "task.c1") == JSON
    assert readers.content_type("assignment", "assignment.c2") == MSGPACK
    readers.note(message(ClientPresence()), False)
    assert readers.content_type("task", "task.c1") == JSON
    readers.note(message(ClientHello()), False)
    assert readers.content_type("task", "task.c1") == MSGPACK


def test_only_messages_to_mailboxes_are_in_json() -> None:
    readers = JsonReaders()
    readers.clients.add("c1")
    for exchange, key in (("task", "plan.c1"), ("update", "update.reducer.c1"), ("event", "event.-.c1")):
        assert readers.content_type(exchange, key) == MSGPACK


def test_a_message_in_json_is_decoded_as_its_msgpack_is() -> None:
    envelope = {"kind": "wait", "id": "m1", "alliance": "north", "sender": "reducer", "sent_at": 1.0}
    data = codec.encode(envelope, {"seconds": 5.0, "reason": "ä"}, JSON)
    assert json.loads(data)["body"] == {"seconds": 5.0, "reason": "ä"}
    found = codec.decode(data, JSON, message_id="m1", alliance="north")
    assert found == codec.decode(
        codec.encode(envelope, {"seconds": 5.0, "reason": "ä"}), MSGPACK, message_id="m1", alliance="north"
    )
