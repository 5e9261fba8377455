"""Broker and stores are opened as the settings say, and only then are their libraries imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.brokers.rabbitmq.broker import RabbitmqBroker
from fedmq.errors import ConfigError
from fedmq.process.connect import open_administration, open_blobs, open_broker, open_records
from fedmq.process.settings import BlobSettings, RecordSettings
from fedmq.records.mongo import MongoRecords
from fedmq.scheduler import VirtualScheduler

EMBEDDED = """
import sys
from fedmq.process.connect import open_broker
from fedmq.scheduler import VirtualScheduler

open_broker("memory:", VirtualScheduler())
print([name for name in ("pika", "pymongo", "minio") if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("url", "broker", "account"),
    [
        ("memory:", MemoryBroker, None),
        ("amqp://north:hidden@broker.invalid/", RabbitmqBroker, "north"),
        ("amqps://north:hidden@broker.invalid/", RabbitmqBroker, "north"),
    ],
)
def test_a_broker_is_opened_by_the_scheme_of_its_url(url: str, broker: type, account: str | None) -> None:
    opened = open_broker(url, VirtualScheduler())
    assert isinstance(opened, broker)
    assert opened.account == account


@pytest.mark.parametrize("url", ["", "north:hidden@host", "nats://north:hidden@host"])
def test_a_url_without_an_adapter_is_refused_without_a_word_of_it(url: str) -> None:
    for call in (lambda: open_broker(url, VirtualScheduler()), lambda: open_administration(url)):
        with pytest.raises(ConfigError, match=r"FEDN_AMQP_URL must begin with one of: amqp:, amqps:, memory:$"):
            call()


def test_a_broker_inside_the_process_has_no_administration() -> None:
    with pytest.raises(ConfigError, match="no server to look at"):
        open_administration("memory:")


def test_the_embedded_broker_imports_no_servers_library() -> None:
    done = subprocess.run([sys.executable, "-c", EMBEDDED], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_blobs_are_opened_as_the_settings_say() -> None:
    settings = BlobSettings.load(
        minio_host="s3.invalid",
        minio_port=9100,
        minio_access_key="account",
        minio_secret_key="hidden",
        minio_bucket_prefix="north-",
    )
    url = open_blobs(settings).presign_get("models/a", 60)
    assert url.startswith("http://s3.invalid:9100/north-models/a?")
    assert "account" in url and "us-east-1" in url and "hidden" not in url
    tls = BlobSettings.load(minio_host="s3.invalid", minio_tls=True)
    assert open_blobs(tls).presign_get("models/a", 60).startswith("https://s3.invalid:9000/")
    public = BlobSettings.load(minio_host="s3.invalid", minio_public_url="https://store.example.org/")
    assert open_blobs(public).presign_get("models/a", 60).startswith("https://store.example.org/models/a?")


def test_records_are_opened_as_the_settings_say() -> None:
    settings = RecordSettings.load(
        alliance="north", mongo_host="db.invalid", mongo_port=27018, mongo_user="fedn_admin", mongo_password="hidden"
    )
    records = open_records(settings)
    assert isinstance(records, MongoRecords)
    credentials = records._client.options.pool_options._credentials
    assert credentials is not None
    assert (credentials.username, credentials.password) == ("fedn_admin", "hidden")
    assert records._client._topology_settings.seeds == {("db.invalid", 27018)}
    assert records._database.name == "north"
    records.close()
    anonymous = open_records(RecordSettings.load(mongo_host="db.invalid"))
    assert isinstance(anonymous, MongoRecords)
    assert anonymous._client.options.pool_options._credentials is None
    anonymous.close()


@pytest.mark.parametrize(
    ("library", "module", "call"),
    [
        ("minio", "fedmq.blobs.s3", lambda: open_blobs(BlobSettings.load())),
        ("pymongo", "fedmq.records.mongo", lambda: open_records(RecordSettings.load())),
    ],
)
def test_an_absent_library_names_the_extra(
    library: str, module: str, call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=rf"{library} is not installed: pip install 'fedmq\[server\]'"):
        call()
