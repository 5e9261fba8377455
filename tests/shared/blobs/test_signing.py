"""Presigned URLs that bind headers are signed as Amazon documents it."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

from fedmq.blobs.s3 import S3Blobs
from fedmq.blobs.signing import content_headers, sign
from fedmq_schemas.messages import BlobRef

EMPTY = BlobRef(key="updates/u", size=0, sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
ACCOUNT = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
AT = datetime(2013, 5, 24, tzinfo=UTC)


def test_the_signature_is_that_of_amazons_example() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html"""
    url = "https://examplebucket.s3.amazonaws.com/test.txt"
    signed = sign("GET", url, {}, account=ACCOUNT, region="us-east-1", at=AT, seconds=86400)
    assert signed == (
        f"{url}?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z"
        "&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_length_and_hash_are_signed_as_headers_and_not_in_the_query() -> None:
    """A server ignores a checksum in the query."""
    headers = content_headers(EMPTY)
    assert headers == {
        "content-length": "0",
        "x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    }
    query = parse_qs(urlsplit(_signed(headers)).query)
    assert query["X-Amz-SignedHeaders"] == ["content-length;host;x-amz-checksum-sha256"]
    assert set(query) == {
        f"X-Amz-{name}" for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
    }


def test_each_signed_value_changes_the_signature() -> None:
    headers = content_headers(EMPTY)
    changed = [headers | {name: "1"} for name in headers]
    assert len({_signed(each) for each in [headers, *changed, {}]}) == 4


def test_an_upload_is_signed_for_the_public_address() -> None:
    blobs = S3Blobs("127.0.0.1:1", "account", "hidden", public_url="https://store.example.org:9443")
    blobs._binds = True  # as a probe has found
    upload = blobs.presign_upload(EMPTY, 300)
    address = urlsplit(upload.url)
    assert (address.netloc, address.path) == ("store.example.org:9443", "/updates/u")
    assert parse_qs(address.query)["X-Amz-Expires"] == ["600"], "dated five minutes back"
    assert upload.headers == content_headers(EMPTY) and "hidden" not in upload.url


def _signed(headers: dict[str, str]) -> str:
    return sign("PUT", "https://s/updates/u", headers, account=ACCOUNT, region="us-east-1", at=AT, seconds=60)
