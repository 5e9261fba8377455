"""A hostile client with an account of its own, on RabbitMQ and an S3 server: it stores the update that it has announced, and
nothing else, whatever it does with its URLs, and nothing of it is accepted after its account is revoked."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import pika
import pytest
from pika.exceptions import AMQPError, ChannelClosedByBroker

from fedmq.blobs import transfer
from fedmq.errors import FedMQError
from fedmq.tensors import tensorblob
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef, TaskMessage, Ticket
from support.waiting import SECONDS
from system.deployment import Deployment, Servers
from system.node import COMMAND

pytestmark = pytest.mark.system
HOSTILE = "hostile-1"
OTHER = b"what the client stores in place of its update"
POLICY: dict[str, Any] = {
    "seed": "seed-system",
    "rounds": 2,
    "clients_required": 1,
    "timeout": 20,
    "validation_timeout": 2,
    "random_seed": 1,
}


class Hostile:
    """A client of pika. It states `tickets`, unless it claims to be of release 0.2."""

    def __init__(self, alliance: Deployment, url: str, *, tickets: bool = True) -> None:
        self.alliance = alliance
        self.task: TaskMessage
        self.combiner = ""
        self._present_at = 0.0
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self.send("assignment", f"assignment.reducer.{HOSTILE}", "attach", {"tasks": ["train"]})
        grant = self.receive("grant")
        self.combiner = grant["combiner"]
        self.send("update", f"update.{self.combiner}.{HOSTILE}", "client_hello", {"tickets": tickets})

    def send(self, exchange: str, key: str, kind: str, body: dict[str, Any]) -> None:
        name = f"{HOSTILE}-{time.time_ns()}"
        message = {
            "kind": kind,
            "id": name,
            "alliance": self.alliance.alliance,
            "sender": HOSTILE,
            "sent_at": time.time(),
        }
        properties = pika.BasicProperties("application/msgpack", message_id=name, user_id=HOSTILE)
        channel = self._connection.channel()
        data = msgpack.packb(message | {"body": body})
        channel.basic_publish(f"{self.alliance.alliance}.{exchange}", key, data, properties)
        channel.close()

    def receive(self, kind: str) -> dict[str, Any]:
        """Returns the body of the next message of this kind."""
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            channel = self._connection.channel()
            try:
                method, _, data = channel.basic_get(f"{self.alliance.alliance}.client.{HOSTILE}.v1", auto_ack=True)
            except ChannelClosedByBroker:  # the reducer has not declared the mailbox yet
                method = None
            else:
                channel.close()
            if method is None:
                self._report_presence()
                self._connection.sleep(0.1)
                continue
            message = msgpack.unpackb(data)
            if message["kind"] == kind:
                body: dict[str, Any] = message["body"]
                return body
        pytest.fail(f"no {kind} arrived")

    def _report_presence(self) -> None:
        if self.combiner and time.monotonic() - self._present_at > 1.0:
            self._present_at = time.monotonic()
            self.send("update", f"update.{self.combiner}.{HOSTILE}", "client_presence", {})

    def await_task(self, number: int) -> bytes:
        """Returns an update for the task of this round."""
        while True:
            self.task = TaskMessage.model_validate(self.receive("task"))
            if self.task.plan.round == number:
                break
        weights, _ = tensorblob.decode(transfer.get(self.task.model, self.task.model_url))
        return tensorblob.encode({name: np.full_like(values, 0.25) for name, values in weights.items()})

    def request(self, data: bytes, size: int | None = None) -> Ticket:
        body = {
            "plan": self.task.plan.model_dump(),
            "size": size or len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        self.send("update", f"update.{self.combiner}.{HOSTILE}", "upload", body)
        return Ticket.model_validate(self.receive("ticket"))

    def publish(self, blob: BlobRef) -> None:
        body = {
            "plan": self.task.plan.model_dump(),
            "model": self.task.model.key,
            "blob": blob.model_dump(),
            "weight": 5,
        }
        self.send("update", f"update.{self.combiner}.{HOSTILE}", "update", body)

    def close(self) -> None:
        if self._connection.is_open:
            self._connection.close()


@pytest.fixture(scope="module")
def alliance(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    servers.start()
    with Deployment(tmp_path_factory.mktemp("alliance"), servers, "upload-tickets") as deployment:
        deployment.start(combiners=1, clients=1)
        deployment.seed()
        yield deployment


@pytest.fixture
def url(alliance: Deployment) -> Iterator[str]:
    """The broker's URL with the account of the hostile client."""
    yield json.loads(account(alliance, "add", HOSTILE, "--json"))["FEDN_AMQP_URL"]
    if HOSTILE in json.loads(account(alliance, "list", "--json")):
        account(alliance, "revoke", HOSTILE)


def account(alliance: Deployment, *words: str) -> str:
    settings = {"FEDN_RABBITMQ_MANAGEMENT_URL": alliance.servers.rabbitmq.management_url}
    environment = alliance.environment("operator") | settings
    done = subprocess.run(
        [COMMAND, "account", *words], env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def put(url: str, key: str, data: bytes, headers: dict[str, str]) -> str:
    """Returns what the store says of an upload: "" if it accepts it."""
    try:
        transfer.put(key, url, data, headers, timeout=5)
    except FedMQError as error:
        return error.reason
    return ""


def accepted(alliance: Deployment, session: str) -> list[BlobRef | None]:
    """Returns for each round the accepted update of the hostile client, and checks the models and all their updates."""
    found = []
    for ledger in alliance.check_ledgers(session, rounds=2):
        blobs = {entry.client: entry.blob for entry in ledger.entries if entry.outcome == "accepted" and entry.blob}
        for blob in blobs.values():
            alliance.blobs.load(blob)  # raises unless size and hash are those of the ledger
        found.append(blobs.get(HOSTILE))
    return found


def test_an_update_that_was_folded_is_what_is_stored_whatever_its_client_does_with_the_url(
    alliance: Deployment, url: str
) -> None:
    """An update that was overwritten made `fedmq model verify` of its model fail for ever."""
    hostile = Hostile(alliance, url)
    alliance.await_present(tables.CLIENTS, 2)
    alliance.start_session("folded", **POLICY)
    data = hostile.await_task(1)
    assert (hostile.task.upload_key, hostile.task.upload_url) == ("", "")
    ticket = hostile.request(data)
    assert ticket.blob.key == keys.update_blob("folded", 1, HOSTILE, ticket.blob.sha256)
    assert put(ticket.url, ticket.blob.key, OTHER, {}) != ""
    assert put(ticket.url, ticket.blob.key, data, ticket.headers) == ""
    hostile.publish(ticket.blob)
    second = hostile.await_task(2)
    for content in (data[::-1], OTHER * 1000):
        for headers in (ticket.headers, {}, {**ticket.headers, "content-length": str(len(content))}):
            assert put(ticket.url, ticket.blob.key, content, headers) != ""
    assert hostile.request(data).reason == "" and second == data
    too_large = hostile.request(data, size=300 << 20)
    assert "larger than an update of this model can be" in too_large.reason and not too_large.url
    hostile.close()

    assert alliance.await_end("folded")["state"] == "finished"
    assert accepted(alliance, "folded") == [ticket.blob, None]


def test_nothing_of_a_client_is_accepted_after_its_account_is_revoked(alliance: Deployment, url: str) -> None:
    hostile = Hostile(alliance, url)
    alliance.await_present(tables.CLIENTS, 2)
    alliance.start_session("revoked", **POLICY)
    data = hostile.await_task(1)
    ticket = hostile.request(data)
    account(alliance, "revoke", HOSTILE)
    put(ticket.url, ticket.blob.key, data, ticket.headers)  # the URL is valid until it expires
    with pytest.raises(AMQPError):
        hostile.publish(ticket.blob)
    with pytest.raises(AMQPError):
        pika.BlockingConnection(pika.URLParameters(url))

    assert alliance.await_end("revoked")["state"] == "finished"
    assert accepted(alliance, "revoked") == [None, None]
    left = keys.upload_prefix("revoked", 1, HOSTILE)
    alliance.until(lambda: not [*alliance.blobs.list(left)], "the deletion of what no ledger names")


def test_an_update_of_a_client_without_tickets_is_copied_before_it_is_folded(alliance: Deployment, url: str) -> None:
    """A hostile client may say that it is of release 0.2."""
    hostile = Hostile(alliance, url, tickets=False)
    alliance.await_present(tables.CLIENTS, 2)
    alliance.start_session("without", **POLICY)
    data = hostile.await_task(1)
    key, upload = hostile.task.upload_key, hostile.task.upload_url
    assert put(upload, key, data, {}) == ""
    blob = BlobRef(key=key, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    hostile.publish(blob)
    hostile.await_task(2)
    assert put(upload, key, OTHER, {}) == "", "it accepts any bytes until five minutes after the deadline"
    hostile.close()

    assert alliance.await_end("without")["state"] == "finished"
    copy = blob.model_copy(update={"key": keys.update_blob("without", 1, HOSTILE, blob.sha256)})
    assert accepted(alliance, "without") == [copy, None]
    alliance.until(
        lambda: not [info for info in alliance.blobs.list("updates/without/") if info.key == key], "the sweep"
    )
