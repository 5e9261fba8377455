"""Probes a RabbitMQ once: whether it answers and accepts the account, the account's permissions, and the version."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from fedmq import tls
from fedmq.brokers.base import Outgoing
from fedmq.brokers.rabbitmq.pika_connection import innermost, read_url
from fedmq.brokers.rabbitmq.queues import NOT_FOUND
from fedmq.errors import ConfigError, NotFound, Refused, Transient
from fedmq_schemas.role_accounts import role_account
from fedmq_schemas.topology import Topology, server_permissions, update_key

SECONDS = 5.0
ANSWER_SECONDS = 3.0


def probe(url: str, topology: Topology | None, client: str | None = None) -> str:
    """Returns RabbitMQ's version. The permissions are tried as `Administration.probe` states.

    Those of servers are tried on an exchange and a queue that are deleted again; those of a client, and of an account of
    combiners alone, by a message that nobody receives; those of an account of dashboards alone by a queue of its own. Raises
    ConfigError with the remedy also for a wrong address, vhost or certificate, and for a broker with an alarm: it accepts no
    messages.
    """
    with _open_link(url) as link:
        if topology is not None and client is not None:
            _try_to_publish(link, topology, client)
        elif topology is not None and link.account == role_account(topology, "combiner"):
            _try_to_publish(link, topology, "combiner")
        elif topology is not None and link.account == role_account(topology, "dashboard"):
            _try_to_observe(link, topology)
        elif topology is not None:
            _try_permissions(link, topology)
        return link.version


def count_consumers(url: str, queue: str) -> int | None:
    """Returns how many consumers the queue has, as `Administration.consumers` states. Raises as `probe` does."""
    with _open_link(url) as link:
        try:
            return int(link.connection.channel().queue_declare(queue, passive=True).method.consumer_count)
        except ChannelClosedByBroker as error:
            if error.reply_code == NOT_FOUND:
                return None
            raise


def ask(url: str, message: Outgoing, mailbox: str, is_answer: Callable[[bytes], bool]) -> bytes | None:
    """Returns the body of an answer, or None, as `Administration.ask` states. Raises as `probe` does."""
    with _open_link(url) as link:
        try:
            _publish(link, message)
            return _await_answer(link, mailbox, is_answer)
        except ChannelClosedByBroker as error:
            raise Refused(f"RabbitMQ refuses the account {link.account!r}: {error.reply_text}") from error


def _publish(link: _ProbeLink, message: Outgoing) -> None:
    properties = pika.BasicProperties(
        content_type=message.content_type,
        message_id=message.message_id,
        user_id=link.account,
        expiration=f"{1000 * ANSWER_SECONDS:.0f}",
    )
    channel = link.connection.channel()
    channel.basic_publish(message.exchange, message.routing_key, message.body, properties)
    channel.close()


def _await_answer(link: _ProbeLink, mailbox: str, is_answer: Callable[[bytes], bool]) -> bytes | None:
    """Takes messages until the answer. The others are not acknowledged, so they return when the connection is closed."""
    channel = link.connection.channel()
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        try:
            method, _, body = channel.basic_get(mailbox)
        except ChannelClosedByBroker as error:
            if error.reply_code != NOT_FOUND:
                raise
            method, body, channel = None, None, link.connection.channel()
        if method is None or method.delivery_tag is None or body is None:
            link.connection.sleep(0.05)
        elif is_answer(body):
            channel.basic_ack(method.delivery_tag)
            return body
    return None


@dataclass(frozen=True, slots=True)
class _ProbeLink:
    connection: pika.BlockingConnection
    account: str
    version: str


@contextmanager
def _open_link(url: str) -> Iterator[_ProbeLink]:
    """Connects once. Translates what pika raises, also while the connection is used."""
    parameters = read_url(url)
    account = parameters.credentials.username if isinstance(parameters.credentials, pika.PlainCredentials) else ""
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = SECONDS
    parameters.connection_attempts = 1
    where = f"{parameters.host}:{parameters.port}"
    connection = _connect(parameters, account, where)
    # pika's blocking connection keeps RabbitMQ's properties in the connection that it wraps, which also reports an alarm
    # at once. Its own callbacks for alarms only run between two calls.
    inner: Any = vars(connection)["_impl"]
    alarms: list[str] = []
    inner.add_on_connection_blocked_callback(lambda _, frame: alarms.append(frame.method.reason))
    try:
        yield _ProbeLink(connection, account, str((inner.server_properties or {}).get("version", "unknown")))
    except AMQPError as error:
        if alarms:
            raise ConfigError(
                f"RabbitMQ at {where} accepts no messages, as it is {alarms[-1]}: free some there, or lower its limit; "
                "`rabbitmq-diagnostics alarms` on its host names the node"
            ) from error
        raise Transient(f"RabbitMQ at {where} ended the connection ({type(error).__name__}: {error})") from error
    finally:
        with suppress(AMQPError):  # the connection may be closed already
            connection.close()


def _connect(parameters: pika.URLParameters, account: str, where: str) -> pika.BlockingConnection:
    try:
        return pika.BlockingConnection(parameters)
    except ProbableAuthenticationError as error:
        raise ConfigError(
            f"RabbitMQ at {where} refuses the account {account!r} or its password: see FEDN_AMQP_URL"
        ) from error
    except (ProbableAccessDeniedError, ConnectionClosedByBroker) as error:
        if "limit" in str(error):
            raise ConfigError(
                f"RabbitMQ at {where} accepts no further connection of the account {account!r}, as it has as many as it "
                "may: end another process of this account"
            ) from error
        raise ConfigError(
            f"RabbitMQ at {where} has no vhost {parameters.virtual_host!r} for the account {account!r}: "
            f"rabbitmqctl set_permissions -p {parameters.virtual_host} {account} '.*' '.*' '.*'"
        ) from error
    except (AMQPError, AMQPConnectorException, OSError) as error:
        explained = tls.explain_certificate_error(error)
        if explained is not None:
            raise ConfigError(f"RabbitMQ at {where} {explained}") from error
        if tls.is_plain_answer(error):
            raise ConfigError(
                f"the port {where} speaks no TLS: begin FEDN_AMQP_URL with amqp://, or name the broker's TLS port, "
                "which is 5671 by default"
            ) from error
        cause = innermost(error)
        words = "not in AMQP" if isinstance(cause, AMQPConnectorException) else f"{type(cause).__name__}: {cause}"
        raise Transient(f"no RabbitMQ answers at {where} ({words})") from error


def _try_permissions(link: _ProbeLink, topology: Topology) -> None:
    name = f"{topology.alliance}.doctor.{secrets.token_hex(8)}"  # drawn, as several doctors may probe at a time
    try:
        channel = link.connection.channel()
        channel.exchange_declare(name, "topic", auto_delete=True)
        channel.queue_declare(name, exclusive=True)
        channel.queue_bind(name, name, "#")
        channel.basic_publish(name, "doctor", b"")
        channel.basic_get(name, auto_ack=True)
        channel.queue_delete(name)
    except ChannelClosedByBroker as error:
        needed = server_permissions(topology)
        raise ConfigError(
            f"the account {link.account!r} lacks a permission ({error.reply_text}): "
            f"if ALLIANCE_UID={topology.alliance} is right, rabbitmqctl set_permissions {link.account} "
            f"'{needed.configure}' '{needed.write}' '{needed.read}'"
        ) from error


def _try_to_observe(link: _ProbeLink, topology: Topology) -> None:
    queue = topology.observer(f"doctor-{secrets.token_hex(8)}")
    try:
        channel = link.connection.channel()
        channel.queue_declare(queue.name, exclusive=True)
        channel.queue_bind(queue.name, topology.exchange("event"), "#")
        channel.queue_delete(queue.name)
    except ChannelClosedByBroker as error:
        if error.reply_code == NOT_FOUND:
            raise NotFound(
                f"no alliance {topology.alliance} has been here: see ALLIANCE_UID, or start its reducer"
            ) from error
        raise ConfigError(
            f"the account {link.account!r} lacks a permission ({error.reply_text}): import the broker's definitions again, "
            "which `fedmq account init` has made"
        ) from error


def _try_to_publish(link: _ProbeLink, topology: Topology, client: str) -> None:
    nobody = "-"  # not a legal name, so no inbox is bound to it
    try:
        channel = link.connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(topology.exchange("update"), update_key(nobody, client), b"")
        # A broker with an alarm still accepts a connection's first message, and reads nothing after it.
        channel.close()
    except ChannelClosedByBroker as error:
        if error.reply_code == NOT_FOUND:
            raise NotFound(
                f"no alliance {topology.alliance} has been here: see ALLIANCE_UID, or start its reducer"
            ) from error
        raise Refused(
            f"the account {link.account!r} may not publish as client {client!r} ({error.reply_text}): "
            f"if ALLIANCE_UID={topology.alliance} is right, see FEDN_CLIENT_NAME and FEDN_AMQP_URL (an account of its own "
            f"has its client's name), or `fedmq account add {client}`"
        ) from error
