"""MongoDB is reached over TLS, and by a URL with everything in it, as managed services give one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fedmq.errors import ConfigError
from fedmq.process.connect import open_records
from fedmq.process.settings import RecordSettings
from fedmq.records import mongo
from fedmq.records.mongo import MongoRecords
from fedmq.tls import trust
from fedmq_cli.doctor.findings import find
from support.servers import certificates
from support.servers.certificates import Authority
from support.servers.mongo import MongoServer
from support.servers.tls_front import tls_front
from support.tiers import require

SECRET = "pa%2Fss%40word"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    require(certificates.missing())
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.fixture(scope="module")
def port(authority: Authority, mongo_server: MongoServer) -> Iterator[int]:
    """The port at which the server is reached over TLS alone."""
    with tls_front(mongo_server.port, authority.sign("mongo")) as found:
        yield found


@pytest.fixture(autouse=True)
def trust_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(mongo, "SELECTION_SECONDS", 1.0)
    yield
    trust(None)


def writes(records: MongoRecords) -> bool:
    with closing(records):
        records.put("tls", "a", {"is": 1})
        return records.get("tls", "a") == {"is": 1}


def test_records_are_kept_over_tls(authority: Authority, port: int) -> None:
    trust(authority.certificate)
    assert writes(open_records(RecordSettings.load(mongo_host="127.0.0.1", mongo_port=port, mongo_tls=True)))


@pytest.mark.parametrize("own_file", [False, True])
def test_a_url_holds_host_and_tls(authority: Authority, port: int, own_file: bool) -> None:
    option = f"&tlsCAFile={authority.certificate}" if own_file else ""
    trust(None if own_file else authority.certificate)
    url = f"mongodb://127.0.0.1:{port}/?tls=true{option}"
    assert writes(open_records(RecordSettings.load(mongo_host="elsewhere.invalid", mongo_url=url)))


def test_a_url_without_tls_needs_none(authority: Authority, mongo_server: MongoServer) -> None:
    trust(authority.certificate)
    assert writes(open_records(RecordSettings.load(mongo_url=f"mongodb://127.0.0.1:{mongo_server.port}/")))


def test_a_server_that_is_not_trusted_is_named_with_the_remedy(port: int, tmp_path: Path) -> None:
    trust(Authority(tmp_path, "strangers").certificate)
    records = MongoRecords("127.0.0.1", port, "test", use_tls=True)
    with (
        closing(records),
        pytest.raises(ConfigError, match=r"MongoDB at 127.0.0.1 has a certificate that.*FEDN_CA_FILE"),
    ):
        records.get("tls", "a")


def test_a_server_without_tls_is_named_with_the_setting(mongo_server: MongoServer) -> None:
    records = MongoRecords(mongo_server.host, mongo_server.port, "test", use_tls=True)
    with closing(records):
        finding = find("record store", lambda: str(records.get("tls", "a")))
    assert "SSL handshake failed" in finding.text and "FEDN_MONGO_TLS" in finding.text


@pytest.mark.parametrize("scheme", ["mongodb", "mongodb+srv"])
def test_messages_show_the_hosts_of_a_url_alone(scheme: str) -> None:
    settings = RecordSettings.load(mongo_url=f"{scheme}://someone:{SECRET}@cluster.invalid/?retryWrites=true")
    records = open_records(settings)
    with closing(records):
        assert records.where == "MongoDB at cluster.invalid"
        assert SECRET not in repr(settings) + repr(records)


@pytest.mark.parametrize(
    "url", ["mongodb://someone:pa/ss@host/", "mongodb://host/?tls=perhaps", "mongodb://host/?w=-1"]
)
def test_a_url_that_is_wrong_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(ConfigError, match="percent-encode user and password") as refused:
        open_records(RecordSettings.load(mongo_url=url))
    assert "ss@" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("url", ["https://host/", "mongodb://", "mongodb://someone:hidden@/", "host:27017"])
def test_a_url_of_another_kind_is_refused_by_the_settings(url: str) -> None:
    with pytest.raises(ConfigError, match=r"FEDN_MONGO_URL must begin with mongodb:// or mongodb\+srv://") as refused:
        RecordSettings.load(mongo_url=url)
    assert "hidden" not in str(refused.value)
