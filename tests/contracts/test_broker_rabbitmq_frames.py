"""What RabbitMQ delivers is read whatever a peer has put into the headers; otherwise it would be delivered without end."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest
from pika import BasicProperties
from pika.frame import Header

from fedmq.brokers.rabbitmq.pika_connection import read_frame

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def marshalled(value: bytes) -> bytes:
    """The frame of a message that has each property, with this value of a header `x`, and half of the next frame."""
    properties = BasicProperties(
        "application/msgpack", "utf-8", {"x": NOW}, message_id="m1", user_id="c1", delivery_mode=2, type="t"
    )
    plain = Header(1, 5, properties).marshal()
    odd = plain.replace(b"T" + struct.pack(">Q", int(NOW.timestamp())), value)
    for (place, size), grown in zip(((3, 4), (7 + 12 + 2 + 20 + 6, 4)), [len(odd) - len(plain)] * 2, strict=True):
        (old,) = struct.unpack_from(">I", odd, place)
        odd = odd[:place] + struct.pack(">I", old + grown) + odd[place + size :]
    return odd + odd[: len(odd) // 2]


def nested(levels: int) -> bytes:
    value = b"V"
    for _ in range(levels):
        value = b"A" + struct.pack(">I", len(value)) + value
    return value


ODD = {
    "a time after the year 9999": b"T" + struct.pack(">Q", 2**40),
    "a time of 64 bits": b"T" + struct.pack(">Q", 2**64 - 1),
    "a number that is none": b"d" + struct.pack(">d", float("nan")),
    "lists in each other": nested(5_000),
    "a type that pika does not know": b"?" + b"12345678",
}


@pytest.mark.parametrize("odd", ODD)
def test_a_message_with_headers_that_pika_can_not_decode_is_read_without_them(odd: str) -> None:
    data = marshalled(ODD[odd])
    taken, header = read_frame(data)
    assert taken == len(data) * 2 // 3
    assert isinstance(header, Header) and (header.channel_number, header.body_size) == (1, 5)
    found = header.properties
    assert found.headers is None
    assert (found.content_type, found.content_encoding, found.message_id) == ("application/msgpack", "utf-8", "m1")
    assert (found.user_id, found.delivery_mode, found.type) == ("c1", 2, "t")


def test_headers_that_pika_can_decode_are_kept() -> None:
    _, header = read_frame(marshalled(b"t\x01"))
    assert isinstance(header, Header) and header.properties.headers == {"x": True}


def test_a_frame_that_is_not_complete_is_read_later() -> None:
    assert read_frame(marshalled(ODD["a time of 64 bits"])[:20]) == (0, None)
