"""Stores are opened as the settings say, and only then are their libraries imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from fedmq.errors import ConfigError
from fedmq.process.connect import open_blobs, open_records
from fedmq.process.settings import BlobSettings, RecordSettings
from fedmq.records.mongo import MongoRecords


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
