"""Probes a RabbitMQ once: whether it answers and accepts the account, the account's permissions, and the version."""

from __future__ import annotations

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
from fedmq.brokers.rabbitmq.pika_connection import innermost, read_url
from fedmq.brokers.rabbitmq.queues import NOT_FOUND
from fedmq.errors import ConfigError, NotFound, Transient
from fedmq_schemas.topology import Topology, server_permissions, update_key

SECONDS = 5.0


def probe(url: str, topology: Topology | None, client: str | None = None) -> str:
    """Returns RabbitMQ's version. The permissions are tried as `Administration.probe` states.

    Those of servers are tried on an exchange and a queue that are deleted again; those of a client by a message that nobody
    receives. Raises ConfigError with the remedy also for a wrong address, vhost or certificate.
    """
    parameters = read_url(url)
    account = parameters.credentials.username if isinstance(parameters.credentials, pika.PlainCredentials) else ""
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = SECONDS
    parameters.connection_attempts = 1
    where = f"{parameters.host}:{parameters.port}"
    try:
        connection = pika.BlockingConnection(parameters)
    except ProbableAuthenticationError as error:
        raise ConfigError(
            f"RabbitMQ at {where} refuses the account {account!r} or its password: see FEDN_AMQP_URL"
        ) from error
    except (ProbableAccessDeniedError, ConnectionClosedByBroker) as error:
        raise ConfigError(
            f"RabbitMQ at {where} has no vhost {parameters.virtual_host!r} for the account {account!r}: "
            f"rabbitmqctl set_permissions -p {parameters.virtual_host} {account} '.*' '.*' '.*'"
        ) from error
    except (AMQPError, AMQPConnectorException, OSError) as error:
        explained = tls.explain_certificate_error(error)
        if explained is not None:
            raise ConfigError(f"RabbitMQ at {where} {explained}") from error
        cause = innermost(error)
        words = "not in AMQP" if isinstance(cause, AMQPConnectorException) else f"{type(cause).__name__}: {cause}"
        raise Transient(f"no RabbitMQ answers at {where} ({words})") from error
    try:
        # pika's blocking connection keeps RabbitMQ's properties in the connection that it wraps.
        properties = vars(connection)["_impl"].server_properties or {}
        if topology is not None and client is not None:
            _try_to_publish(connection, topology, account, client)
        elif topology is not None:
            _try_permissions(connection, topology, account)
    finally:
        connection.close()
    return str(properties.get("version", "unknown"))


def _try_permissions(connection: pika.BlockingConnection, topology: Topology, account: str) -> None:
    name = f"{topology.alliance}.doctor"
    try:
        channel = connection.channel()
        channel.exchange_declare(name, "topic", auto_delete=True)
        channel.queue_declare(name, exclusive=True)
        channel.queue_bind(name, name, "#")
        channel.basic_publish(name, "doctor", b"")
        channel.basic_get(name, auto_ack=True)
        channel.queue_delete(name)
    except ChannelClosedByBroker as error:
        needed = server_permissions(topology)
        raise ConfigError(
            f"the account {account!r} lacks a permission ({error.reply_text}): "
            f"rabbitmqctl set_permissions {account} '{needed.configure}' '{needed.write}' '{needed.read}'"
        ) from error


def _try_to_publish(connection: pika.BlockingConnection, topology: Topology, account: str, client: str) -> None:
    nobody = "-"  # not a legal name, so no inbox is bound to it
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(topology.exchange("update"), update_key(nobody, client), b"")
    except ChannelClosedByBroker as error:
        if error.reply_code == NOT_FOUND:
            raise NotFound(
                f"no alliance {topology.alliance} has been here: see ALLIANCE_UID, or start its reducer"
            ) from error
        raise ConfigError(
            f"the account {account!r} may not publish as client {client!r} ({error.reply_text}): an account of its own "
            f"has its client's name: see FEDN_CLIENT_NAME and FEDN_AMQP_URL, or `fedmq account add {client}`"
        ) from error
