"""`fedmq doctor` on the reducer's API: its version, its token, and the ports that roles listen on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pika
import pytest

from fedmq import __version__
from fedmq.brokers.rabbitmq.accounts import RabbitmqAccounts
from fedmq.brokers.rabbitmq.management import Management
from fedmq.errors import ConfigError
from fedmq.process.settings import ClientSettings
from fedmq_cli.doctor import api_checks, store_checks
from fedmq_cli.doctor.findings import Notable
from fedmq_cli.doctor.inquiry import Inquired
from fedmq_schemas import records as tables
from fedmq_schemas.messages import VERSION, About
from fedmq_schemas.topology import Topology
from support.servers.answering import Answer, answering
from support.servers.ports import free_ports
from system.deployment import Deployment, Servers
from system.doctors import doctor

pytestmark = pytest.mark.system
MINOR = ".".join(__version__.split(".")[:2])


@pytest.mark.parametrize(
    ("version", "protocol", "verdict", "words"),
    [
        (f"{MINOR}.99", VERSION, "ok", f"is fedmq {MINOR}.99"),
        ("99.1.0", VERSION, "warning", "install fedmq 99.1.0 here, or upgrade the reducer"),
        ("99.1.0", VERSION + 1, "fault", "install its fedmq 99.1.0 here"),
    ],
)
def test_another_version_than_the_reducers_is_named(
    environment: dict[str, str], version: str, protocol: int, verdict: str, words: str
) -> None:
    page = {"status": "ok", "alliance": "patient", "version": version, "protocol": protocol}
    with answering(lambda *_: Answer(200, json.dumps(page).encode())) as port:
        mine = environment | {"FEDN_REDUCER_HOST": "127.0.0.1", "FEDN_REDUCER_PORT": str(port)}
        found = doctor(mine, "client", code=2 if verdict == "fault" else 0)["versions"]

    assert found[0] == verdict
    assert words in found[1]


def test_a_client_that_does_not_know_the_api_says_how_to_compare(environment: dict[str, str]) -> None:
    verdict, text = doctor(environment, "client")["versions"]

    assert verdict == "ok"
    assert "FEDN_REDUCER_HOST" in text


def test_a_client_that_reaches_the_broker_alone_compares_its_version_and_clock_over_it(
    tmp_path: Path, servers: Servers
) -> None:
    servers.start()
    with Deployment(tmp_path, servers, "inquired") as deployment:
        deployment.add("reducer", 1)
        deployment.active_reducer()
        accounts = RabbitmqAccounts(
            Management(servers.rabbitmq.url, servers.rabbitmq.management_url), Topology("inquired")
        )
        url = servers.rabbitmq.url.replace("guest:guest", f"asks:{accounts.add('asks')}")
        mine = deployment.environment("doctor") | {"FEDN_AMQP_URL": url, "FEDN_CLIENT_NAME": "asks"}
        first = doctor(mine, "client")
        again = doctor(mine, "client")
        with consuming_mailbox(servers.rabbitmq.url, Topology("inquired").client("asks").name):
            running = doctor(mine, "client")
        accounts.revoke("asks")
        dead = deployment.records.count(tables.EVENTS, {"name": "message.refused"})

    for found in (first, again):
        assert found["versions"] == ("ok", found["versions"][1])
        assert found["versions"][1].endswith(f"; the reducer is fedmq {__version__}")
        assert found["clock"] == ("ok", "agrees with the reducer's to 1 s")
    assert "a client named asks runs already, and would receive the answer" in running["versions"][1]
    assert dead == 0


@contextmanager
def consuming_mailbox(url: str, queue: str) -> Iterator[None]:
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        connection.channel().basic_consume(queue, lambda *_: None)
        yield


@pytest.mark.parametrize(
    ("software", "speaks", "error", "words"),
    [
        (f"fedmq {MINOR}.99", (VERSION, VERSION + 1), None, f"the reducer is fedmq {MINOR}.99"),
        ("fedmq 99.1.0", (VERSION, VERSION), Notable, "install fedmq 99.1.0 here, or upgrade the reducer"),
        (
            "fedmq 99.1.0",
            (VERSION + 1, VERSION + 2),
            ConfigError,
            f"speaks {VERSION + 1} to {VERSION + 2}: install its",
        ),
    ],
)
def test_another_version_that_is_learnt_over_the_broker_is_named(
    software: str, speaks: tuple[int, int], error: type[Exception] | None, words: str
) -> None:
    inquired = Inquired(About(software=software, speaks=speaks))
    with pytest.raises(error, match=words) if error else nullcontext():
        assert words in api_checks.version_over_broker(inquired)


@pytest.mark.parametrize(
    ("ahead", "words"), [(100.0, "100 s ahead of the reducer's"), (-8.0, "8 s behind the reducer's")]
)
def test_a_clients_clock_that_differs_from_the_reducers_is_a_warning(ahead: float, words: str) -> None:
    inquired = Inquired(About(software="fedmq 1", speaks=(1, 1)), ahead)
    with pytest.raises(Notable, match=f"this machine's clock is {words}.*use NTP"):
        store_checks.client_clock(ClientSettings(), lambda: inquired)


def test_the_token_and_the_alliance_are_compared_with_the_running_reducers(tmp_path: Path, servers: Servers) -> None:
    servers.start()
    with Deployment(tmp_path, servers, "guarded") as deployment:
        node = deployment.add("reducer", 1, FEDN_ADMIN_TOKEN="right")
        deployment.active_reducer()
        mine = node.environment | {"FEDN_STATE_DIR": str(tmp_path / "doctor"), "FEDN_HEALTH_PORT": ""}
        right = doctor(mine, "control")["API"]
        wrong = doctor(mine | {"FEDN_ADMIN_TOKEN": "wrong"}, "control", code=2)["API"]
        none = doctor(mine | {"FEDN_ADMIN_TOKEN": ""}, "control", code=2)["API"]
        running = doctor(mine, "reducer")
        other = doctor(mine | {"ALLIANCE_UID": "other"}, "reducer", code=2)["API"]

    assert right[0] == running["API"][0] == "ok"
    assert "a reducer of alliance guarded answers at" in right[1]
    assert running["versions"][1].endswith(f"is fedmq {__version__}")
    assert "the token sent is another one" in wrong[1] and "FEDN_ADMIN_TOKEN" in wrong[1]
    assert "none was sent" in none[1]
    assert "is of alliance guarded, and not of other: see ALLIANCE_UID" in other[1]


def test_an_api_whose_answer_is_a_passing_fault_is_asked_again(environment: dict[str, str]) -> None:
    asked: list[str] = []

    def choose(method: str, path: str) -> Answer:
        asked.append(f"{method} {path}")
        if method == "POST":
            return Answer(422, b'{"detail": "no session id"}')
        page = {"status": "ok", "alliance": "patient", "version": __version__, "protocol": VERSION}
        is_passing = len(asked) % 2 == 1
        return (
            Answer(503, b'{"detail": "a conflict of two writes"}')
            if is_passing
            else Answer(200, json.dumps(page).encode())
        )

    with answering(choose) as port:
        found = doctor(environment | {"FEDN_REDUCER_HOST": "127.0.0.1", "FEDN_REDUCER_PORT": str(port)}, "control")

    assert found["API"][0] == found["versions"][0] == "ok"
    assert len(asked) == 5


def test_an_api_that_is_away_is_a_fault_for_those_who_need_it(environment: dict[str, str]) -> None:
    verdict, text = doctor(environment, "control", code=2)["API"]

    assert verdict == "fault"
    assert "FEDN_REDUCER_HOST" in text


def test_a_port_that_another_program_has_is_named_with_its_setting(environment: dict[str, str]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken, answering(lambda *_: Answer()) as web:
        port = str(taken.getsockname()[1])
        silent = doctor(environment | {"FEDN_REDUCER_PORT": port}, "reducer", code=2)["API"]
        other = doctor(environment | {"FEDN_REDUCER_PORT": str(web)}, "reducer", code=2)["API"]
        shown = doctor(environment | {"FEDN_DASHBOARD_PORT": port, "FEDN_HEALTH_PORT": port}, "dashboard")

    assert silent[0] == "fault" and "set FEDN_REDUCER_PORT to a free port" in silent[1]
    assert other[0] == "fault" and "does not answer as a reducer does" in other[1]
    assert shown["port"][0] == "warning" and "set FEDN_DASHBOARD_PORT to a free port" in shown["port"][1]
    assert shown["health port"][0] == "warning" and "set FEDN_HEALTH_PORT to a free port" in shown["health port"][1]


def test_an_open_port_without_a_token_is_a_fault(environment: dict[str, str]) -> None:
    [port] = free_ports(1)
    mine = environment | {"FEDN_REDUCER_BIND": "0.0.0.0", "FEDN_REDUCER_PORT": str(port), "FEDN_HEALTH_PORT": ""}
    verdict, text = doctor(mine, "reducer", code=2)["admin token"]
    assert verdict == "fault" and "no token protects it: set FEDN_ADMIN_TOKEN" in text

    verdict, text = doctor(mine | {"FEDN_ADMIN_TOKEN": "short"}, "reducer", code=2)["admin token"]
    assert verdict == "fault" and "FEDN_ADMIN_TOKEN can be guessed" in text

    own = {
        "FEDN_ADMIN_TOKEN": "0123456789abcdef",
        "FEDN_MINIO_SECRET_KEY": "a-key-of-my-own",
        "FEDN_AMQP_URL": "amqp://me:a-password-of-my-own@127.0.0.1:1/",
    }
    assert doctor(mine | own, "reducer", code=2)["admin token"][0] == "ok"
