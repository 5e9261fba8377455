"""pika's connection as the adapter uses it: its parameters, its ways to end, and the causes of its errors."""

from __future__ import annotations

from collections.abc import Callable

import pika
from pika.adapters.select_connection import SelectConnection
from pika.exceptions import ConnectionClosedByClient

from fedmq import tls
from fedmq.errors import ConfigError

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
    _set_connection_state: Callable[[int], None]
    _on_close_ready: Callable[[], None]
    _terminate_stream: Callable[[Exception], None]

    def leave(self) -> None:
        """Closes the connection once RabbitMQ has read everything that was sent."""
        self._error = ConnectionClosedByClient(200, "normal shutdown")
        self._set_connection_state(self.CONNECTION_CLOSING)
        self._on_close_ready()

    def crash(self) -> None:
        """Drops the connection without closing it."""
        self._terminate_stream(ConnectionClosedByClient(200, "killed"))


def innermost(error: BaseException) -> BaseException:
    """Returns the error that pika wrapped in others, whose own messages are empty."""
    inner = [*getattr(error, "exceptions", ()), getattr(error, "exception", None), *error.args]
    wrapped = [each for each in inner if isinstance(each, BaseException)]
    return innermost(wrapped[-1]) if wrapped else error
