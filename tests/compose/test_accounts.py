"""Accounts in containers: each role and each replica of clients has its own, a thief of one gets no further, and an
account that is revoked does not come back."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPConnectionError, AMQPError, ChannelClosedByBroker

from compose.engine import COMPOSE, Project, checkout, needed, run, until
from compose.rest import attached, fetch, finished, present, start
from fedmq.blobs.s3 import S3Blobs
from fedmq.errors import FedMQError

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

ALLIANCE = "fedmq"
STEAL = (
    "import json; from fedmq_cli.deployment.asking import ask_for_account; "
    "print(json.dumps(ask_for_account('http://accounts:8100')))"
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """What `make up` starts, with the smallest example."""
    needed("fedmq-example-numpy_regression")
    project = Project("fedmqtest", checkout(tmp_path_factory.mktemp("clone")), {"EXAMPLE": "numpy_regression"})
    project.remove()
    try:
        project.typed("make up", ".")
        attached(5)
        yield project
    finally:
        project.remove()


def accounts(stack: Project, words: str) -> Any:
    """Returns what `fedmq account` answers, with the administrator's account."""
    [container] = stack.containers("accounts")
    return json.loads(run("docker", "exec", container, "fedmq", "account", *words.split(), "--json"))


def names(count: int) -> list[str]:
    return [f"client-{number}" for number in range(1, count + 1)]


def here() -> list[str]:
    return sorted(each["client"] for each in present("clients"))


def replica(stack: Project, number: int) -> str:
    """Returns the container of a client."""
    found = {
        run("docker", "inspect", "--format", "{{.Name}}", each).strip(): each for each in stack.containers("client")
    }
    return next(each for name, each in found.items() if re.search(rf"client[-_]{number}$", name))


def stolen(stack: Project, number: int) -> tuple[str, str]:
    """Returns name and password of a client's account, as who controls its container gets them."""
    account = json.loads(run("docker", "exec", replica(stack, number), "python", "-c", STEAL))
    found = re.fullmatch(r"amqp://([^:]+):([^@]+)@rabbitmq:5672/", account["FEDN_AMQP_URL"])
    assert found
    return found[1], found[2]


def test_clients_have_an_account_each_also_when_they_are_scaled(stack: Project) -> None:
    assert (here(), accounts(stack, "list")) == (names(5), names(5))
    stack.typed('make up ARGS="--no-recreate --scale client=8"', ".")
    attached(8)
    assert (here(), accounts(stack, "list")) == (names(8), names(8))
    assert finished(start("rounds=1&clients_required=8"))["rounds_committed"] == 1
    stack.typed('make up ARGS="--no-recreate --scale client=5"', ".")
    attached(5)
    stack.typed('make up ARGS="--no-recreate --scale client=8"', ".")
    attached(8)
    assert (here(), accounts(stack, "list")) == (names(8), names(8))


def test_a_replica_that_is_restarted_or_replaced_keeps_its_name(stack: Project) -> None:
    stack.typed('make up ARGS="--no-recreate --scale client=8"', ".")
    run("docker", "restart", "--time", "5", replica(stack, 2))
    stack.typed("docker compose -f mnist-clients.yaml up -d --force-recreate --scale client=8")
    attached(8)
    assert (here(), accounts(stack, "list")) == (names(8), names(8))


def test_each_role_connects_with_its_own_account(stack: Project) -> None:
    [broker] = stack.containers("rabbitmq")
    listed = run("docker", "exec", broker, "rabbitmqctl", "-q", "list_connections", "user").split()
    roles = {f"{ALLIANCE}.{role}" for role in ("reducer", "combiner", "dashboard")}
    assert set(listed) - {"user"} == roles | {*here()}
    tags = run("docker", "exec", broker, "rabbitmqctl", "-q", "list_users")
    assert [line.split()[0] for line in tags.splitlines() if "administrator" in line] == ["fedmq"]


def test_no_secret_is_in_the_environment_of_a_container_and_a_client_holds_none(stack: Project) -> None:
    secrets = json.loads((stack.folder / COMPOSE / "secrets" / "passwords.json").read_text())
    drawn = {value for name, value in secrets.items() if not name.startswith("salt")}
    assert len(drawn) == 10
    for service in (
        "accounts",
        "rabbitmq",
        "minio",
        "mongo",
        "mongo-express",
        "dashboard",
        "reducer",
        "combiner",
        "client",
    ):
        for container in stack.containers(service):
            inspected = run("docker", "inspect", container)
            assert not [each for each in drawn if each in inspected], service
    mounted = json.loads(run("docker", "inspect", "--format", "{{json .Mounts}}", replica(stack, 1)))
    assert {each["Destination"] for each in mounted} == {"/var/lib/fedmq", "/certs"}
    environment = run("docker", "exec", replica(stack, 1), "sh", "-c", "cat /proc/*/environ")
    assert "ALLIANCE_UID" in environment
    assert "FEDN_AMQP_URL=amqp://rabbitmq:5672/" in environment
    assert not [each for each in drawn if each in environment]


FORBIDDEN: dict[str, Callable[[BlockingChannel], Any]] = {
    "publish as another client": lambda channel: publish(channel, "assignment", "assignment.reducer.client-1"),
    "sign as another client": lambda channel: publish(channel, "assignment", "assignment.reducer.client-3", "client-1"),
    "answer for another client": lambda channel: publish(channel, "update", "update.combiner.client-1"),
    "start a session": lambda channel: publish(channel, "control", "control.start"),
    "publish a task": lambda channel: publish(channel, "task", "task.client-1"),
    "read another's mailbox": lambda channel: channel.basic_get(f"{ALLIANCE}.client.client-1.v1"),
    "read the reducer's inbox": lambda channel: channel.basic_get(f"{ALLIANCE}.reducer.v1"),
    "read the records": lambda channel: channel.basic_get(f"{ALLIANCE}.records.v1"),
    "declare a queue": lambda channel: channel.queue_declare(f"{ALLIANCE}.mine"),
    "declare an exchange": lambda channel: channel.exchange_declare(f"{ALLIANCE}.mine", "topic"),
    "listen to events": lambda channel: channel.queue_bind(f"{ALLIANCE}.client.client-3.v1", f"{ALLIANCE}.event", "#"),
    "delete its mailbox": lambda channel: channel.queue_delete(f"{ALLIANCE}.client.client-3.v1"),
    "purge another's mailbox": lambda channel: channel.queue_purge(f"{ALLIANCE}.client.client-1.v1"),
}


def publish(channel: BlockingChannel, exchange: str, key: str, user: str | None = None) -> None:
    channel.confirm_delivery()
    channel.basic_publish(f"{ALLIANCE}.{exchange}", key, b"{}", pika.BasicProperties(user_id=user))


def test_a_stolen_account_can_do_nothing_that_is_not_its_clients_own(stack: Project) -> None:
    name, password = stolen(stack, 3)
    assert name == "client-3"
    for what, attempt in FORBIDDEN.items():
        with pika.BlockingConnection(pika.URLParameters(f"amqp://{name}:{password}@localhost:5672/")) as connection:
            with pytest.raises(ChannelClosedByBroker) as refused:
                attempt(connection.channel())
            assert refused.value.reply_code in (403, 406), what
    for path in ("overview", "users", "queues", "definitions"):
        assert fetch(f"http://localhost:15672/api/{path}", account=f"{name}:{password}")[0] == 401, path
    with pytest.raises(FedMQError):
        S3Blobs("localhost:9000", name, password).stat("models/any")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen("http://localhost:9000/models", timeout=10)


def test_a_container_is_given_no_account_but_its_own(stack: Project) -> None:
    for number in (1, 4):
        assert stolen(stack, number)[0] == f"client-{number}"
    answer = (
        "import urllib.error, urllib.request as r\n"
        "try: r.urlopen(r.Request('http://accounts:8100/account', b'', method='POST'))\n"
        "except urllib.error.HTTPError as error: print(error.code, error.read().decode())"
    )
    for service in ("dashboard", "combiner"):
        refused = run("docker", "exec", stack.containers(service)[0], "python", "-c", answer)
        assert refused.startswith("403 ") and "is not the host of a client" in refused


def test_revoking_ends_the_account_at_once_and_it_comes_back_only_when_it_is_added(stack: Project) -> None:
    name, password = stolen(stack, 5)
    url = f"amqp://{name}:{password}@localhost:5672/?heartbeat=2"
    connection = pika.BlockingConnection(pika.URLParameters(url))
    publish(connection.channel(), "assignment", f"assignment.reducer.{name}")
    assert accounts(stack, f"revoke {name}")["had_account"] is True
    with pytest.raises(AMQPError):
        listen(connection)
    with pytest.raises(AMQPConnectionError):
        pika.BlockingConnection(pika.URLParameters(url))
    container = replica(stack, 5)
    until(
        lambda: f"the account {name} was revoked" in logs(container),
        "the container is refused an account",
    )
    assert name not in accounts(stack, "list")
    until(lambda: name not in here(), "the client is away")
    accounts(stack, f"add {name}")
    until(lambda: name in here(), "the client is back", 240)


def listen(connection: pika.BlockingConnection) -> None:
    """Serves a connection for half a minute, or until it ends."""
    for _ in range(30):
        connection.process_data_events(1)


def logs(container: str) -> str:
    return run("bash", "-c", f"docker logs {container} 2>&1")


def test_what_is_down_and_up_again_has_the_same_secrets_and_accounts(stack: Project) -> None:
    kept = (stack.folder / COMPOSE / "secrets" / "passwords.json").read_text()
    stack.typed("make down", ".")
    stack.typed("make up", ".")
    attached(5)
    assert (stack.folder / COMPOSE / "secrets" / "passwords.json").read_text() == kept
    assert here() == names(5)
