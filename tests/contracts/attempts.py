"""What somebody with a client's account tries at RabbitMQ: a list of attempts, and what RabbitMQ answers to each."""

from __future__ import annotations

import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel

from fedmq_schemas.topology import Queue, Topology
from support.servers.rabbitmq import RabbitmqServer

THIEF, VICTIM = "c-stolen", "c-victim"


@dataclass
class Stolen:
    """The account, and the alliance that it belongs to."""

    url: str
    server: RabbitmqServer
    topology: Topology
    opened: list[pika.BlockingConnection] = field(default_factory=list)

    def exchange(self, name: str) -> str:
        return self.topology.exchange(name)

    @property
    def own(self) -> str:
        return self.topology.client(THIEF).name

    @property
    def victims(self) -> str:
        return self.topology.client(VICTIM).name

    @property
    def reducers(self) -> str:
        return self.topology.reducer().name

    @property
    def combiners(self) -> str:
        return self.topology.combiner("k1").name

    @property
    def observers(self) -> str:
        return self.topology.observer("page").name

    def connect(self, **options: Any) -> pika.BlockingConnection:
        parameters = pika.URLParameters(self.url)
        for name, value in options.items():
            setattr(parameters, name, value)
        self.opened.append(pika.BlockingConnection(parameters))
        return self.opened[-1]


Try = Callable[[BlockingChannel, Stolen], object]


def publish(exchange: str, key: str, **properties: Any) -> Try:
    """To an exchange of the alliance."""

    def attempt(channel: BlockingChannel, stolen: Stolen) -> None:
        channel.basic_publish(stolen.exchange(exchange), key, b"{}", pika.BasicProperties(**properties))

    return attempt


def to_a_queue(queue: Callable[[Stolen], str]) -> Try:
    """By RabbitMQ's default exchange, which knows every queue by its name."""
    return lambda channel, stolen: channel.basic_publish("", queue(stolen), b"{}")


def get(queue: Callable[[Stolen], str]) -> Try:
    return lambda channel, stolen: channel.basic_get(queue(stolen))


def consume(queue: Callable[[Stolen], str]) -> Try:
    return lambda channel, stolen: channel.basic_consume(queue(stolen), lambda *_: None)


def delete(queue: Callable[[Stolen], str]) -> Try:
    return lambda channel, stolen: channel.queue_delete(queue(stolen))


def purge(queue: Callable[[Stolen], str]) -> Try:
    return lambda channel, stolen: channel.queue_purge(queue(stolen))


def bind(queue: Callable[[Stolen], str], exchange: str, key: str) -> Try:
    return lambda channel, stolen: channel.queue_bind(queue(stolen), stolen.exchange(exchange), key)


def unbind(queue: Callable[[Stolen], str], exchange: str, key: str) -> Try:
    return lambda channel, stolen: channel.queue_unbind(queue(stolen), stolen.exchange(exchange), key)


def declare(queue: Callable[[Topology], Queue]) -> Try:
    """Declares a queue of the alliance, with its own arguments or others."""
    return lambda channel, stolen: channel.queue_declare(queue(stolen.topology).name, durable=True)


def many_channels(_: BlockingChannel, stolen: Stolen) -> None:
    connection = stolen.connect()
    for _number in range(11):
        connection.channel()


def many_connections(_: BlockingChannel, stolen: Stolen) -> None:
    for _number in range(5):
        stolen.connect()


def manage(method: str, path: str, body: bytes | None = None) -> Try:
    """Calls the management API with the account."""

    def attempt(_: BlockingChannel, stolen: Stolen) -> None:
        account = stolen.url.removeprefix("amqp://").partition("@")[0]
        headers = {"Authorization": f"Basic {b64encode(account.encode()).decode()}"}
        request = urllib.request.Request(f"{stolen.server.management_url}/api/{path}", body, headers, method=method)
        urllib.request.urlopen(request, timeout=10).close()

    return attempt


FORGED = {"user_id": THIEF, "headers": {"CC": [f"assignment.{VICTIM}"]}}
HIDDEN = {"user_id": THIEF, "headers": {"BCC": [f"assignment.{VICTIM}"]}}
OWN_KEY = f"assignment.reducer.{THIEF}"

REFUSED: dict[str, tuple[Try, int]] = {
    # Queues and exchanges of its own
    "declare a queue": (lambda channel, _: channel.queue_declare("mine"), 403),
    "declare a queue named by the broker": (lambda channel, _: channel.queue_declare("", exclusive=True), 403),
    "declare a queue of the alliance": (
        lambda channel, stolen: channel.queue_declare(f"{stolen.topology.alliance}.mine"),
        403,
    ),
    "declare a stream": (
        lambda channel, _: channel.queue_declare("mine", durable=True, arguments={"x-queue-type": "stream"}),
        403,
    ),
    "declare a queue with dead letters elsewhere": (
        lambda channel, stolen: channel.queue_declare(
            "mine", arguments={"x-dead-letter-exchange": stolen.exchange("control"), "x-message-ttl": 0}
        ),
        403,
    ),
    "declare its own mailbox": (declare(lambda topology: topology.client(THIEF)), 403),
    "declare the mailbox of a client to come": (declare(lambda topology: topology.client("c-later")), 403),
    "declare the reducers' inbox": (declare(Topology.reducer), 403),
    "declare an observer's queue": (declare(lambda topology: topology.observer("mine")), 403),
    "declare an exchange": (lambda channel, _: channel.exchange_declare("mine", "topic"), 403),
    "declare an exchange of the alliance": (
        lambda channel, stolen: channel.exchange_declare(stolen.exchange("more"), "topic"),
        403,
    ),
    "declare an exchange that exists": (
        lambda channel, stolen: channel.exchange_declare(stolen.exchange("task"), "topic", durable=True),
        403,
    ),
    # Deleting and emptying
    "delete its own mailbox": (delete(lambda stolen: stolen.own), 403),
    "delete another's mailbox": (delete(lambda stolen: stolen.victims), 403),
    "delete the reducers' inbox": (delete(lambda stolen: stolen.reducers), 403),
    "delete a combiner's inbox": (delete(lambda stolen: stolen.combiners), 403),
    "delete the records": (delete(lambda stolen: stolen.topology.records().name), 403),
    "delete the dead letters": (delete(lambda stolen: stolen.topology.dead().name), 403),
    "delete an exchange": (lambda channel, stolen: channel.exchange_delete(stolen.exchange("task")), 403),
    "purge another's mailbox": (purge(lambda stolen: stolen.victims), 403),
    "purge the reducers' inbox": (purge(lambda stolen: stolen.reducers), 403),
    "purge the records": (purge(lambda stolen: stolen.topology.records().name), 403),
    "purge the dead letters": (purge(lambda stolen: stolen.topology.dead().name), 403),
    # Bindings
    "bind its mailbox to all tasks": (bind(lambda stolen: stolen.own, "task", "#"), 403),
    "bind its mailbox to all updates": (bind(lambda stolen: stolen.own, "update", "#"), 403),
    "bind its mailbox to the event stream": (bind(lambda stolen: stolen.own, "event", "#"), 403),
    "bind another's mailbox": (bind(lambda stolen: stolen.victims, "event", "#"), 403),
    "unbind another's mailbox": (unbind(lambda stolen: stolen.victims, "task", f"task.{VICTIM}"), 403),
    "unbind the reducers' inbox": (unbind(lambda stolen: stolen.reducers, "update", "update.reducer.#"), 403),
    "bind an exchange to another": (
        lambda channel, stolen: channel.exchange_bind(stolen.exchange("update"), stolen.exchange("task"), "#"),
        403,
    ),
    "unbind exchanges": (
        lambda channel, stolen: channel.exchange_unbind(stolen.exchange("update"), stolen.exchange("task"), "#"),
        403,
    ),
    # Reading
    "get from another's mailbox": (get(lambda stolen: stolen.victims), 403),
    "consume another's mailbox": (consume(lambda stolen: stolen.victims), 403),
    "get from the reducers' inbox": (get(lambda stolen: stolen.reducers), 403),
    "consume the reducers' inbox": (consume(lambda stolen: stolen.reducers), 403),
    "consume a combiner's inbox": (consume(lambda stolen: stolen.combiners), 403),
    "consume the records": (consume(lambda stolen: stolen.topology.records().name), 403),
    "get from the dead letters": (get(lambda stolen: stolen.topology.dead().name), 403),
    "consume an observer's queue": (consume(lambda stolen: stolen.observers), 403),
    # Publishing under its own name where it may not
    "start a session": (publish("control", "control.start"), 403),
    "stop a session": (publish("control", "control.stop"), 403),
    "forget a member": (publish("control", "control.forget"), 403),
    "send another a task": (publish("task", f"task.{VICTIM}"), 403),
    "send itself a task": (publish("task", f"task.{THIEF}"), 403),
    "send a combiner a plan": (publish("task", "plan.k1"), 403),
    "grant another a combiner": (publish("assignment", f"assignment.{VICTIM}"), 403),
    "report a commit": (publish("event", "event.s1.round.committed"), 403),
    "report of a session": (publish("event", "event.s1.message.refused"), 403),
    "report another's departure": (publish("event", "event.-.client.left"), 403),
    "publish a dead letter": (publish("dead", "any"), 403),
    "write into another's mailbox": (to_a_queue(lambda stolen: stolen.victims), 403),
    "write into the reducers' inbox": (to_a_queue(lambda stolen: stolen.reducers), 403),
    "write into its own mailbox": (to_a_queue(lambda stolen: stolen.own), 403),
    "publish to amq.topic": (lambda channel, _: channel.basic_publish("amq.topic", "any", b""), 403),
    "publish to amq.direct": (lambda channel, _: channel.basic_publish("amq.direct", "any", b""), 403),
    # Publishing as somebody else
    "attach as another": (publish("assignment", f"assignment.reducer.{VICTIM}"), 403),
    "answer a task as another": (publish("update", f"update.k1.{VICTIM}"), 403),
    "validate as another": (publish("update", f"update.reducer.{VICTIM}"), 403),
    "publish with more words before its name": (publish("update", f"update.k1.more.{THIEF}"), 403),
    "publish with a word after its name": (publish("update", f"update.k1.{THIEF}.more"), 403),
    "sign as another": (publish("update", f"update.k1.{THIEF}", user_id=VICTIM), 406),
    "sign as the servers": (publish("update", f"update.k1.{THIEF}", user_id="guest"), 406),
    # Costs
    "publish 200 kB": (
        lambda channel, stolen: channel.basic_publish(stolen.exchange("update"), f"update.k1.{THIEF}", b"x" * 200_000),
        406,
    ),
    "open an eleventh channel": (many_channels, 530),
    "open a fifth connection": (many_connections, 530),
    # Beside AMQP
    "connect to another vhost": (lambda _, stolen: stolen.connect(virtual_host="other"), 530),
    "ask the management API who it is": (manage("GET", "whoami"), 401),
    "list queues by the management API": (manage("GET", "queues"), 401),
    "make an administrator by the management API": (
        manage("PUT", "users/c-new", b'{"password": "p", "tags": "administrator"}'),
        401,
    ),
    "lift its own limits by the management API": (manage("DELETE", f"user-limits/{THIEF}/max-channels"), 401),
}
"""What is refused by each version, and RabbitMQ's code for it."""

BY_HEADER: dict[str, Try] = {
    "send another a grant by CC": publish("assignment", OWN_KEY, **FORGED),
    "send another a grant by BCC": publish("assignment", OWN_KEY, **HIDDEN),
}
"""What RabbitMQ 3 accepts, so that the receiver refuses it, and RabbitMQ 4 refuses."""

UNREFUSED: dict[str, Try] = {
    "ask how many messages and consumers a queue has": lambda channel, stolen: [
        channel.queue_declare(queue, passive=True) for queue in (stolen.reducers, stolen.combiners, stolen.victims)
    ],
    "ask whether an exchange exists": lambda channel, stolen: channel.exchange_declare(
        stolen.exchange("control"), passive=True
    ),
    "publish with a priority": publish("update", f"update.k1.{THIEF}", user_id=THIEF, priority=9),
    "publish without a signature": publish("update", f"update.k1.{THIEF}"),
    "empty its own mailbox": purge(lambda stolen: stolen.own),
}
"""What each version accepts. The receiver refuses those of these messages that are none of a client."""
