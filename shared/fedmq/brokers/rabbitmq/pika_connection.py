"""pika's connection as the adapter uses it: its parameters, frames and ways to end, and the causes of its errors."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pika
from pika import frame
from pika.adapters.select_connection import SelectConnection
from pika.exceptions import ConnectionClosedByClient, InvalidFieldTypeException
from pika.spec import FRAME_HEADER

from fedmq import tls
from fedmq.errors import ConfigError

Frame = frame.Frame | frame.ProtocolHeader | None

FORM = "amqp[s]://user:password@host:port/vhost, where what is special in a password is percent-encoded"


def read_url(url: str) -> pika.URLParameters:
    """Returns the parameters of a URL, whose TLS is `fedmq.tls`, unless it has `ssl_options`. Raises ConfigError."""
    try:
        if not url.startswith(("amqp://", "amqps://")):
            raise ValueError("another scheme")
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError) as error:
        # Without pika's message, which may hold a part of the password.
        raise ConfigError(f"FEDN_AMQP_URL is not of the form {FORM}") from error
    if parameters.ssl_options is not None and "ssl_options=" not in url:
        parameters.ssl_options = pika.SSLOptions(tls.context())
    return parameters


class PikaConnection(SelectConnection):
    """pika's connection with two more ways to end.

    After both, RabbitMQ returns all unsettled messages to the front of their queues, in order. pika's own `close` cancels
    each consumer first, and messages that are then on their way to a cancelled consumer return ahead of the rest.
    """

    # pika's own; its type stubs leave them out.
    bytes_received: int
    _frame_buffer: bytes
    _set_connection_state: Callable[[int], None]
    _on_close_ready: Callable[[], None]
    _terminate_stream: Callable[[Exception], None]

    def _read_frame(self) -> tuple[int, Frame]:
        return read_frame(self._frame_buffer)

    def leave(self) -> None:
        """Closes the connection once RabbitMQ has read everything that was sent."""
        self._error = ConnectionClosedByClient(200, "normal shutdown")
        self._set_connection_state(self.CONNECTION_CLOSING)
        self._on_close_ready()

    def crash(self) -> None:
        """Drops the connection without closing it."""
        self._terminate_stream(ConnectionClosedByClient(200, "killed"))


_FRAME_START, _FRAME_END = 7, 1
_BEFORE_FLAGS = 12
_HEADERS = 1 << 13
"""The flag of a message's headers. Those of its content type and encoding, which are short texts before it, are higher."""


def read_frame(data: bytes) -> tuple[int, Frame]:
    """Returns the number of bytes that the first frame takes, and the frame; 0 and None if it is not complete.

    A message is read without its headers if pika can't decode them: a time after the year 9999, or 1,000 lists in each
    other. Any peer may send such headers. Else the connection would be lost over them each time RabbitMQ delivers them.
    """
    try:
        return frame.decode_frame(data)
    except (ValueError, OverflowError, RecursionError, InvalidFieldTypeException):
        if data[0] != FRAME_HEADER:
            raise
        (size,) = struct.unpack_from(">I", data, 3)
        taken = _FRAME_START + size + _FRAME_END
        return taken, frame.decode_frame(_without_headers(data[:taken]))[1]


def _without_headers(data: bytes) -> bytes:
    start = _FRAME_START + _BEFORE_FLAGS
    (flags,) = struct.unpack_from(">H", data, start)
    table = start + 2
    for flag in (1 << 15, 1 << 14):
        if flags & flag:
            table += 1 + data[table]
    (size,) = struct.unpack_from(">I", data, table)
    payload = (
        data[_FRAME_START:start]
        + struct.pack(">H", flags & ~_HEADERS)
        + data[start + 2 : table]
        + data[table + 4 + size : -_FRAME_END]
    )
    return data[:3] + struct.pack(">I", len(payload)) + payload + data[-_FRAME_END:]


def innermost(error: BaseException) -> BaseException:
    """Returns the error that pika wrapped in others, whose own messages are empty."""
    inner = [*getattr(error, "exceptions", ()), getattr(error, "exception", None), *error.args]
    wrapped = [each for each in inner if isinstance(each, BaseException)]
    return innermost(wrapped[-1]) if wrapped else error
