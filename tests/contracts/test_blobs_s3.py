"""The contract of blobs on an S3 server, beyond the port."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from contracts.stores import open_s3, patiently
from fedmq.blobs import transfer
from fedmq.blobs.base import UrlExpired
from fedmq.blobs.s3 import S3Blobs
from fedmq.errors import ConfigError, NotFound, Transient
from support.servers.seaweedfs import S3Server

ANYWHERE = ("127.0.0.1:1", "account", "hidden")
CONTENT = bytes(range(256)) * 40
LARGE = CONTENT * 1100  # three parts of 5 MB


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmq.blobs.s3.ONE_PART", 5 << 20)
    monkeypatch.setattr("fedmq.blobs.s3.PART", 5 << 20)


@pytest.mark.system
@pytest.mark.usefixtures("_small_parts")
def test_a_large_blob_goes_in_parts(s3_server: S3Server, tmp_path: Path) -> None:
    blobs = open_s3(s3_server)
    (tmp_path / "large").write_bytes(LARGE)
    ref = blobs.put("updates/s/1/large", tmp_path / "large")
    assert ref.sha256 == hashlib.sha256(LARGE).hexdigest()
    assert blobs.fetch(ref, tmp_path / "copy").read_bytes() == LARGE
    assert blobs.read("updates/s/1/large", (5 << 20) - 2, 4) == LARGE[(5 << 20) - 2 : (5 << 20) + 2]


@pytest.mark.system
def test_an_expired_or_forged_url_is_distinguished_from_other_refusals(s3_server: S3Server) -> None:
    blobs = open_s3(s3_server)
    ref = blobs.put("models/a", CONTENT)
    early = -290.0  # the URL is dated five minutes back
    with pytest.raises(UrlExpired):
        transfer.get(ref, blobs.presign_get("models/a", early))
    with pytest.raises(UrlExpired):
        transfer.put("models/a", blobs.presign_put("models/a", early), b"other")
    for url in (blobs.presign_get("models/a", 60), blobs.presign_put("models/b", 60)):
        with pytest.raises(UrlExpired):
            transfer.put("models/a", url.replace("models/b", "models/a"), b"other")
    assert blobs.get("models/a") == CONTENT


@pytest.mark.system
def test_the_store_is_transient_while_its_server_is_down_and_works_again_after(
    s3_server: S3Server, tmp_path: Path
) -> None:
    blobs = open_s3(s3_server)
    ref = blobs.put("models/a", CONTENT)
    s3_server.kill()
    try:
        calls: list[Any] = [
            lambda: blobs.put("models/b", CONTENT),
            lambda: blobs.get("models/a"),
            lambda: blobs.fetch(ref, tmp_path / "a"),
            lambda: list(blobs.list("models/")),
            lambda: blobs.delete("models/a"),
        ]
        for call in calls:
            with pytest.raises(Transient, match="S3 server"):
                call()
    finally:
        s3_server.start()
    assert patiently(lambda: blobs.get("models/a")) == CONTENT
    assert patiently(lambda: blobs.put("models/b", CONTENT)).size == len(CONTENT)


@pytest.mark.system
def test_a_wrong_account_is_a_fault_of_the_settings(s3_server: S3Server) -> None:
    for account in ((s3_server.access_key, "wrong"), ("nobody", s3_server.secret_key)):
        with pytest.raises(ConfigError, match="FEDN_MINIO_SECRET_KEY"):
            S3Blobs(s3_server.endpoint, *account).put("models/a", CONTENT)


@pytest.mark.system
def test_buckets_have_the_prefix_and_are_apart(s3_server: S3Server) -> None:
    plain, prefixed = open_s3(s3_server), open_s3(s3_server, prefix="north-")
    transfer.put("models/a", prefixed.presign_put("models/a", 60), CONTENT)  # before anything made the bucket
    assert prefixed.get("models/a") == CONTENT
    with pytest.raises(NotFound):
        plain.get("models/a")
    assert "/north-models/a?" in prefixed.presign_get("models/a", 60)


def test_urls_are_signed_for_the_public_address_and_dated_five_minutes_back() -> None:
    before = datetime.now(UTC) - timedelta(minutes=5, seconds=1)
    url = urlsplit(S3Blobs(*ANYWHERE, public_url="https://store.example.org:9443").presign_get("models/a b", 3600))
    query = parse_qs(url.query)
    assert (url.scheme, url.netloc, url.path) == ("https", "store.example.org:9443", "/models/a%20b")
    dated = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert before <= dated <= before + timedelta(minutes=1)
    assert query["X-Amz-Expires"] == ["3900"]
    assert "hidden" not in url.query


def test_urls_live_seven_days_at_most() -> None:
    url = S3Blobs(*ANYWHERE).presign_get("models/a", 30 * 24 * 3600.0)
    assert "X-Amz-Expires=604800" in url


@pytest.mark.parametrize("endpoint", ["http://host:9000", "host:port:9000", "host/path"])
def test_an_address_that_can_not_be_is_a_fault_of_the_settings(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="address"):
        S3Blobs(endpoint, "account", "hidden")
