"""What the URL of an upload lets a client store on a real S3 server: the announced bytes, and nothing else."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Sequence
from urllib.parse import urlsplit

import pytest

from contracts.stores import open_s3
from fedmq.blobs import transfer
from fedmq.blobs.base import SignedUpload, UrlExpired
from fedmq.blobs.s3 import S3Blobs
from fedmq.blobs.signing import content_headers
from fedmq.errors import Refused
from fedmq_schemas.messages import BlobRef
from support.servers.seaweedfs import S3Server

pytestmark = pytest.mark.system
KEY = "updates/s/000001/c1/the-hash"
RIGHT = bytes(range(256)) * 40
OTHER = RIGHT[::-1]
REF = BlobRef(key=KEY, size=len(RIGHT), sha256=hashlib.sha256(RIGHT).hexdigest())
CHECKSUM = "x-amz-checksum-sha256"


@pytest.fixture(scope="module")
def blobs(s3_server: S3Server) -> S3Blobs:
    return open_s3(s3_server)


@pytest.fixture
def ticket(blobs: S3Blobs) -> SignedUpload:
    blobs.delete(KEY)
    return blobs.presign_upload(REF, 60.0)


def of(content: bytes) -> dict[str, str]:
    """Returns the headers that would be signed for this content."""
    return content_headers(BlobRef(key=KEY, size=len(content), sha256=hashlib.sha256(content).hexdigest()))


def put(url: str, headers: Sequence[tuple[str, str]], content: bytes) -> int:
    """Sends exactly these headers, a repeated one too. Returns the status; 0 if the server hangs up."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=20)
    connection.putrequest("PUT", f"{address.path}?{address.query}", skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    try:
        connection.endheaders(content)
        return connection.getresponse().status
    except (http.client.HTTPException, OSError):
        return 0
    finally:
        connection.close()


def test_the_server_binds_what_is_signed(blobs: S3Blobs) -> None:
    assert blobs.binds_uploads()
    assert not [info.key for info in blobs.list("updates/doctor/")], "the probe is deleted"


def test_the_announced_bytes_are_stored_and_may_be_sent_again(blobs: S3Blobs, ticket: SignedUpload) -> None:
    for _ in range(2):
        assert transfer.put(KEY, ticket.url, RIGHT, ticket.headers) == REF
        assert blobs.load(REF) == RIGHT


RIGHT_HASH, OTHER_HASH = of(RIGHT)[CHECKSUM], of(OTHER)[CHECKSUM]
LENGTH = ("content-length", str(len(RIGHT)))
CHUNKED = (
    f"{len(OTHER):x};chunk-signature={'0' * 64}\r\n".encode()
    + OTHER
    + b"\r\n0;chunk-signature="
    + b"0" * 64
    + b"\r\n\r\n"
)
ATTEMPTS: dict[str, tuple[list[tuple[str, str]], bytes]] = {
    "other bytes of the same length": ([*of(RIGHT).items()], OTHER),
    "longer": ([("content-length", str(2 * len(OTHER))), (CHECKSUM, RIGHT_HASH)], OTHER * 2),
    "longer, with the checksum of what is sent": ([*of(OTHER * 2).items()], OTHER * 2),
    "shorter": ([("content-length", "100"), (CHECKSUM, RIGHT_HASH)], OTHER[:100]),
    "the checksum left out": ([LENGTH], OTHER),
    "the checksum replaced": ([LENGTH, (CHECKSUM, OTHER_HASH)], OTHER),
    "the checksum twice, the right one first": ([LENGTH, (CHECKSUM, RIGHT_HASH), (CHECKSUM, OTHER_HASH)], OTHER),
    "the checksum twice, the right one last": ([LENGTH, (CHECKSUM, OTHER_HASH), (CHECKSUM, RIGHT_HASH)], OTHER),
    "both checksums in one header": ([LENGTH, (CHECKSUM, f"{RIGHT_HASH},{OTHER_HASH}")], OTHER),
    "another checksum beside it": ([*of(RIGHT).items(), ("x-amz-checksum-crc32", "AAAAAA==")], OTHER),
    "the checksum as a trailer": ([*of(RIGHT).items(), ("x-amz-trailer", CHECKSUM)], OTHER),
    "the body in chunks of aws-chunked": (
        [
            ("content-length", str(len(CHUNKED))),
            (CHECKSUM, RIGHT_HASH),
            ("content-encoding", "aws-chunked"),
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("x-amz-decoded-content-length", str(len(OTHER))),
        ],
        CHUNKED,
    ),
}


@pytest.mark.parametrize("name", ATTEMPTS)
@pytest.mark.parametrize("is_stored", [True, False], ids=["over the right bytes", "before them"])
def test_nothing_else_is_stored(blobs: S3Blobs, ticket: SignedUpload, name: str, is_stored: bool) -> None:
    if is_stored:
        transfer.put(KEY, ticket.url, RIGHT, ticket.headers)
    status = put(ticket.url, *ATTEMPTS[name])
    assert not 200 <= status < 300, status
    stored = [blobs.get(info.key) for info in blobs.list("updates/s/")]
    assert stored == ([RIGHT] if is_stored else [])


def test_a_body_without_a_length_is_refused(blobs: S3Blobs, ticket: SignedUpload) -> None:
    body = f"{len(OTHER):x}\r\n".encode() + OTHER + b"\r\n0\r\n\r\n"
    assert not 200 <= put(ticket.url, [("transfer-encoding", "chunked"), (CHECKSUM, RIGHT_HASH)], body) < 300
    assert not [*blobs.list("updates/s/")]


def test_the_url_opens_no_other_key_and_expires(blobs: S3Blobs, ticket: SignedUpload) -> None:
    """A client that meets 403 requests another ticket."""
    with pytest.raises(UrlExpired):
        transfer.put(KEY, ticket.url.replace("/c1/", "/c2/"), RIGHT, ticket.headers)
    with pytest.raises(UrlExpired):
        transfer.put(KEY, blobs.presign_upload(REF, -290.0).url, RIGHT, ticket.headers)  # dated five minutes back
    with pytest.raises(Refused):
        transfer.put(KEY, ticket.url, OTHER, ticket.headers)
    assert not [*blobs.list("updates/s/")]


def test_a_server_that_ignores_signed_headers_is_found_out(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the headers in the signature this server accepts any content, as one does that ignores them."""
    monkeypatch.setattr("fedmq.blobs.s3.content_headers", lambda ref: {})
    blobs = open_s3(s3_server)
    assert not blobs.binds_uploads()
    upload = blobs.presign_upload(REF, 60.0)
    assert upload.headers == {}
    transfer.put(KEY, upload.url, OTHER)
    assert blobs.get(KEY) == OTHER
