"""Broker, S3 server and REST API over TLS, with certificates that an authority of our own signed."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from fedmq.tls import trust
from fedmq_schemas import records as tables
from support.servers import certificates, rabbitmq, seaweedfs
from support.servers.certificates import Authority
from support.servers.mongo import MongoServer
from support.servers.rabbitmq import RabbitmqServer
from support.servers.seaweedfs import S3Server
from support.tiers import require
from support.waiting import SECONDS
from system.deployment import Deployment, Servers
from system.node import COMMAND, Node

pytestmark = pytest.mark.system

PACKAGE = Path(__file__).parents[2] / "examples" / "numpy_regression" / "client"
REMEDY = "FEDN_CA_FILE names the PEM file of the authority that signed it"


class Secure(Deployment):
    """All its processes know the authority, and the reducer has a certificate of its own."""

    def environment(self, name: str) -> dict[str, str]:
        tls = self.servers.s3.tls
        assert tls is not None
        return super().environment(name) | {"FEDN_CA_FILE": str(tls.authority)}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    require(certificates.missing())
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One that signed nothing here."""
    return Authority(tmp_path_factory.mktemp("stranger"), "strangers")


@pytest.fixture(scope="module")
def alliance(
    authority: Authority, mongo_server: MongoServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secure]:
    """A reducer, a combiner and two clients, none of which has a connection to broker or S3 server without TLS."""
    require(rabbitmq.missing() or seaweedfs.missing())
    folder = tmp_path_factory.mktemp("tls")
    pair = authority.sign("servers")
    servers = Servers(RabbitmqServer(folder / "rabbitmq", pair), S3Server(folder / "s3", pair), mongo_server)
    trust(authority.certificate)
    try:
        servers.rabbitmq.start()
        servers.s3.start()
        deployment = Secure(folder / "alliance", servers, "secure", package=PACKAGE)
        with deployment:
            own = Authority(folder / "own", "reducer").sign("elsewhere", "subjectAltName=DNS:reducer.example")
            page = {"FEDN_REDUCER_TLS_CERT": str(own.certificate), "FEDN_REDUCER_TLS_KEY": str(own.key)}
            deployment.add("reducer", 1, **page)
            deployment.add("combiner", 1)
            for number in (1, 2):
                deployment.add("client", number)
            deployment.await_present(tables.CLIENTS, 2)
            yield deployment
    finally:
        trust(None)
        servers.rabbitmq.remove()
        servers.s3.remove()


def fedmq(alliance: Deployment, *words: str | Path, code: int = 0, **settings: str) -> str:
    """What the command prints where it has the reducer's settings, and others."""
    environment = alliance.nodes["reducer-1"].environment | settings
    done = subprocess.run([COMMAND, *words], env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_an_alliance_trains_over_tls_alone(alliance: Secure) -> None:
    seed = json.loads(fedmq(alliance, "seed", "--package", PACKAGE, "--json"))["model"]
    fedmq(alliance, "start", "--seed", seed, "--id", "secure", "--set", "rounds=3", "--set", "clients_required=2")

    assert alliance.await_end("secure")["state"] == "finished"
    for ledger in alliance.check_ledgers("secure", rounds=3):
        assert [entry.outcome for entry in ledger.entries] == ["accepted"] * 2
    assert alliance.blobs.presign_get("models/a", 60).startswith("https://")
    listeners = alliance.servers.rabbitmq.manage("GET", "overview")["listeners"]
    assert {each["protocol"] for each in listeners} >= {"amqp/ssl"}
    assert "amqp" not in {each["protocol"] for each in listeners}


@pytest.mark.parametrize("role", ["reducer", "combiner", "client"])
def test_doctor_finds_all_well_over_tls(alliance: Secure, role: str) -> None:
    found = examined(alliance, role)

    assert "broker" in found
    assert {what for what, (verdict, _) in found.items() if verdict != "ok"} == set()


def test_doctor_names_the_remedy_where_another_authority_is_trusted(alliance: Secure, stranger: Authority) -> None:
    wrong = examined(alliance, "combiner", FEDN_CA_FILE=str(stranger.certificate))
    none = examined(alliance, "client", FEDN_CA_FILE="")

    for verdict, text in (wrong["broker"], wrong["blob store"], none["broker"]):
        assert verdict == "fault"
        assert REMEDY in text
    assert f"{stranger.certificate} and the system's authorities do not vouch for" in wrong["broker"][1]


def test_a_client_that_trusts_another_authority_says_so_and_ends(alliance: Secure, stranger: Authority) -> None:
    client = alliance.add("client", 3, FEDN_CA_FILE=str(stranger.certificate))
    assert client.process is not None and client.process.wait(30) == 2
    del alliance.nodes["client-3"]

    words = json.loads(client.log.read_text().splitlines()[-1])["message"]
    assert words.startswith(f"RabbitMQ at 127.0.0.1:{alliance.servers.rabbitmq.port} has a certificate that ")
    assert REMEDY in words


def test_a_client_that_trusts_the_broker_alone_fails_its_tasks_and_says_why(
    alliance: Secure, authority: Authority, stranger: Authority
) -> None:
    options = quote(str({"cafile": str(authority.certificate), "cert_reqs": int(ssl.CERT_REQUIRED)}))
    url = f"{alliance.servers.rabbitmq.url}?ssl_options={options}"
    alliance.add("client", 4, FEDN_AMQP_URL=url, FEDN_CA_FILE=str(stranger.certificate))
    alliance.await_present(tables.CLIENTS, 3)
    seed = json.loads(fedmq(alliance, "seed", "--package", PACKAGE, "--json"))["model"]
    fedmq(alliance, "start", "--seed", seed, "--id", "distrusted", "--set", "rounds=1", "--set", "clients_required=2")

    assert alliance.await_end("distrusted")["state"] == "finished"
    [ledger] = alliance.check_ledgers("distrusted", rounds=1)
    [failed] = [entry for entry in ledger.entries if entry.client == "client-4"]
    assert failed.outcome == "failed"
    for words in (failed.reason or "", alliance.nodes["client-4"].log.read_text()):
        assert "the store at 127.0.0.1 has a certificate that" in words
        assert REMEDY in words
    assert alliance.remove("client-4") == 0


def test_the_reducers_own_certificate_is_enough_whatever_name_it_has(alliance: Secure, authority: Authority) -> None:
    reducer = alliance.nodes["reducer-1"]
    url = f"https://127.0.0.1:{reducer.api_port}"
    assert "client-1" in fedmq(alliance, "clients")
    assert "client-1" in fedmq(alliance, "clients", "--url", url)

    other = fedmq(alliance, "clients", code=2, FEDN_REDUCER_TLS_CERT=str(authority.certificate))
    unknown = fedmq(alliance, "clients", "--url", url, code=2, FEDN_REDUCER_TLS_CERT="")
    assert "has another certificate than the one in FEDN_REDUCER_TLS_CERT" in other
    assert REMEDY in unknown and "FEDN_REDUCER_TLS_CERT" in unknown


def test_a_broker_that_is_trusted_no_more_is_waited_for(alliance: Secure, stranger: Authority) -> None:
    rabbitmq = alliance.servers.rabbitmq
    trusted = rabbitmq.tls
    assert trusted is not None
    words = f"trying again: has a certificate that {trusted.authority} and the system's authorities do not vouch for"

    def complains(node: Node) -> bool:
        return words in node.log.read_text()

    rabbitmq.stop()
    rabbitmq.tls = stranger.sign("impostor")
    rabbitmq.start()
    for node in alliance.nodes.values():
        alliance.until(partial(complains, node), f"complaint of {node.name}")
    rabbitmq.stop()
    rabbitmq.tls = trusted
    rabbitmq.start()
    assert all(node.is_running for node in alliance.nodes.values())
    seed = json.loads(fedmq(alliance, "seed", "--package", PACKAGE, "--json"))["model"]
    fedmq(alliance, "start", "--seed", seed, "--id", "again", "--set", "rounds=1", "--set", "clients_required=2")
    assert alliance.await_end("again")["state"] == "finished"


def examined(alliance: Secure, role: str, **settings: str) -> dict[str, tuple[str, str]]:
    """What `fedmq doctor` finds by what it looks at: verdict and text."""
    management = {"FEDN_RABBITMQ_MANAGEMENT_URL": alliance.servers.rabbitmq.management_url}
    environment = alliance.environment("doctor") | management | settings
    done = subprocess.run(
        [COMMAND, "doctor", role, "--json"], env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    return {each["what"]: (each["verdict"], each["text"]) for each in json.loads(done.stdout)}
