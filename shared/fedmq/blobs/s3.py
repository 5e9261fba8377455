"""Blobs on an S3 server, such as MinIO: the store for many machines. The only module that imports `minio`."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from fedmq.blobs.base import STORE, BlobInfo, BlobSource, SignedUpload
from fedmq.blobs.checks import IncomingBlob, absent, check_key, check_size, opened
from fedmq.blobs.signing import content_headers, sign
from fedmq.connection_faults import fault
from fedmq.errors import ConfigError, FedMQError, NotFound, ProtocolError, Transient
from fedmq.tls import context as tls_context
from fedmq.tls import explain_certificate_error
from fedmq_schemas import keys
from fedmq_schemas.keys import BUCKETS
from fedmq_schemas.messages import BlobRef

ONE_PART = 64 << 20
PART = 16 << 20
PIECE = 1 << 20
BACKDATED = timedelta(minutes=5)
MAX_LIFETIME = timedelta(days=7)

_ABSENT = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchObject", "ResourceNotFound"})
_ACCOUNT = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed"})
_CLOCK = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_TRANSIENT = frozenset({"RequestTimeout", "SlowDown", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"})


class S3Blobs:
    """The `Blobs` port on S3; safe across threads, over one pool of connections.

    `endpoint` is `host:port`. The buckets `PREFIXmodels` and `PREFIXupdates` are made when they are first needed. A blob of
    up to 64 MB passes through memory and is put in one request; a larger one is put in parts of 16 MB, three at a time.

    Presigned URLs are signed for `public_url`, at which clients reach the same server, or else for `endpoint`. They are
    dated five minutes back, because clocks differ, and are valid for 7 days at most. An upload is one PUT, which S3 limits
    to 5 GB: one in parts could be completed a second time, with fewer parts, over an update that was accepted.

    `patience`: seconds without a byte after which a request has failed; it is repeated `retries` times.

    Raises `ConfigError` if the server refuses account, signature or clock, or if its certificate is not trusted.
    """

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        *,
        tls: bool = False,
        region: str = "us-east-1",
        prefix: str = "",
        public_url: str | None = None,
        patience: float = 60.0,
        retries: int = 2,
    ) -> None:
        def client(host: str, secure: bool) -> Minio:
            return Minio(host, access_key, secret_key, secure=secure, region=region, http_client=self._http)

        self._http = urllib3.PoolManager(
            maxsize=16,
            ssl_context=tls_context(),
            timeout=urllib3.Timeout(connect=5.0, read=patience),
            retries=urllib3.Retry(
                total=retries, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504), raise_on_status=False
            ),
        )
        self._prefix = prefix
        self._account, self._region = (access_key, secret_key), region
        self._binds: bool | None = None
        self._probing = threading.Lock()
        self._ready: set[str] = set()
        self._making = threading.Lock()
        try:
            self._client = client(endpoint, tls)
            public = urlsplit(public_url or "")
            self._public = client(public.netloc, public.scheme == "https") if public_url else self._client
        except ValueError as error:
            raise ConfigError(f"the S3 server's address is wrong: {error}") from error
        self._endpoint = endpoint

    def put(self, key: str, source: BlobSource) -> BlobRef:
        """Puts the blob in one request, or in parts."""
        bucket, name = self._place(key)
        self._ensure(bucket)
        with opened(source) as (file, size):
            reader = _Hashing(file)
            try:
                with self._translated(key):
                    part = ONE_PART if size <= ONE_PART else PART
                    self._client.put_object(bucket, name, cast(BinaryIO, reader), size, part_size=part)
            except NotFound:
                raise Transient(
                    f"the bucket {bucket} was removed; it is made again at the next put", store=STORE
                ) from None
        return BlobRef(key=key, size=size, sha256=reader.digest.hexdigest())

    def load(self, ref: BlobRef) -> bytes:
        """Compares the announced size with the response's header before reading."""
        with IncomingBlob(ref) as incoming:
            self._receive(incoming, ref)
            return incoming.finish()

    def get(self, key: str) -> bytes:
        """Reads the object."""
        with self._response(key) as response:
            return response.read(decode_content=False)

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Reads a range of the object. S3 refuses ranges past the end, so the size is checked first."""
        if length <= 0 or offset >= self.stat(key).size:
            return b""
        with self._response(key, {"Range": f"bytes={offset}-{offset + length - 1}"}) as response:
            return response.read(decode_content=False)

    def fetch(self, ref: BlobRef, into: Path) -> Path:
        """Streams the object into the file `into`."""
        with IncomingBlob(ref, into) as incoming:
            self._receive(incoming, ref)
            incoming.finish()
        return into

    def stat(self, key: str) -> BlobInfo:
        """Requests the object's header."""
        bucket, name = self._place(key)
        with self._translated(key):
            found = self._client.stat_object(bucket, name)
        return BlobInfo(key, found.size or 0, _seconds(found.last_modified))

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """Lists in the order of the server."""
        bucket, slash, name = prefix.partition("/")
        for each in BUCKETS:
            if each == bucket if slash else each.startswith(bucket):
                yield from self._list(each, name)

    def delete(self, key: str) -> None:
        """Deletes the object."""
        bucket, name = self._place(key)
        try:
            with self._translated(key):
                self._client.remove_object(bucket, name)
        except NotFound:
            return

    def presign_get(self, key: str, seconds: float) -> str:
        """Returns a URL for `public_url`."""
        return self._presign("GET", key, seconds)

    def presign_put(self, key: str, seconds: float) -> str:
        """Returns a URL for `public_url`."""
        self._ensure(self._place(key)[0])
        return self._presign("PUT", key, seconds)

    def presign_upload(self, ref: BlobRef, seconds: float) -> SignedUpload:
        """Returns a URL for `public_url`, whose signature binds length and SHA-256 unless the server ignores that."""
        if not self.binds_uploads():
            return SignedUpload(self.presign_put(ref.key, seconds), {})
        return self._bound(self._public, ref, seconds)

    def binds_uploads(self) -> bool:
        """Returns whether the server enforces signed headers. Tries it once, with a blob that it deletes."""
        with self._probing:
            if self._binds is None:
                self._binds = self._probe()
        return self._binds

    def _probe(self) -> bool:
        """Puts other bytes than the signed ones, which must be refused, and then the signed ones."""
        right, wrong = secrets.token_bytes(64), secrets.token_bytes(64)
        key = keys.doctor_blob(secrets.token_hex(8))
        signed = self._bound(self._client, BlobRef(key=key, size=64, sha256=hashlib.sha256(right).hexdigest()), 60.0)
        self._ensure(self._place(key)[0])
        statuses = []
        try:
            for content in (wrong, right):
                with self._translated(key):
                    response = self._http.request("PUT", signed.url, body=content, headers=dict(signed.headers))
                if response.status >= 500:
                    raise Transient(
                        f"the S3 server at {self._endpoint} answered {response.status} for {key}", store=STORE
                    )
                statuses.append(response.status)
        finally:
            self.delete(key)
        return statuses[0] >= 400 and statuses[1] == 200

    def _bound(self, client: Minio, ref: BlobRef, seconds: float) -> SignedUpload:
        headers = content_headers(ref)
        url = sign(
            "PUT",
            self._sign(client, "PUT", ref.key, BACKDATED).partition("?")[0],
            headers,
            account=self._account,
            region=self._region,
            at=datetime.now(UTC) - BACKDATED,
            seconds=int(_lifetime(seconds).total_seconds()),
        )
        return SignedUpload(url, headers)

    def _presign(self, method: str, key: str, seconds: float) -> str:
        return self._sign(self._public, method, key, _lifetime(seconds))

    def _sign(self, client: Minio, method: str, key: str, expires: timedelta) -> str:
        bucket, name = self._place(key)
        return client.get_presigned_url(
            method, bucket, name, expires=expires, request_date=datetime.now(UTC) - BACKDATED
        )

    def _list(self, bucket: str, name: str) -> Iterator[BlobInfo]:
        try:
            with self._translated(bucket):
                for found in self._client.list_objects(self._prefix + bucket, name or None, recursive=True):
                    key = f"{bucket}/{found.object_name}"
                    yield BlobInfo(key, found.size or 0, _seconds(found.last_modified))
        except NotFound:
            return

    def _place(self, key: str) -> tuple[str, str]:
        check_key(key)
        bucket, _, name = key.partition("/")
        return self._prefix + bucket, name

    def _ensure(self, bucket: str) -> None:
        if bucket in self._ready:
            return
        with self._making, self._translated(bucket):
            if not self._client.bucket_exists(bucket):
                try:
                    self._client.make_bucket(bucket)
                except S3Error as error:
                    if error.code in _ACCOUNT:
                        raise ConfigError(
                            f"the S3 server at {self._endpoint} has no bucket {bucket}, and its account may not make it "
                            f"({error.code}): make the bucket there, see FEDN_MINIO_BUCKET_PREFIX"
                        ) from error
                    # another process made it meanwhile
                    if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                        raise
            self._ready.add(bucket)

    def _receive(self, incoming: IncomingBlob, ref: BlobRef) -> None:
        with self._response(ref.key) as response:
            check_size(ref, int(response.headers["Content-Length"]))
            for piece in response.stream(PIECE, decode_content=False):
                incoming.write(piece)

    @contextmanager
    def _response(self, key: str, headers: dict[str, str] | None = None) -> Iterator[urllib3.BaseHTTPResponse]:
        bucket, name = self._place(key)
        with self._translated(key):
            response = self._client.get_object(bucket, name, request_headers=dict(headers or {}))
            try:
                yield response
            finally:
                if response.length_remaining == 0:
                    response.release_conn()
                else:
                    response.close()

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            raise self._translate(error, key) from error
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            explained = explain_certificate_error(error)
            if explained is not None:
                raise ConfigError(f"the S3 server at {self._endpoint} {explained}") from error
            cause = getattr(error, "reason", None) or error
            raise Transient(f"the S3 server at {self._endpoint} {fault(cause)}", store=STORE) from error

    def _translate(self, error: S3Error, key: str) -> FedMQError:
        words = f"the S3 server at {self._endpoint} answered {error.code} for {key}"
        if error.code in _ABSENT:
            self._ready.discard(error.bucket_name or "")
            return absent(key)
        if error.code in _ACCOUNT:
            return ConfigError(f"{words}: see FEDN_MINIO_ACCESS_KEY and FEDN_MINIO_SECRET_KEY")
        if error.code in _CLOCK:
            return ConfigError(f"{words}: the clocks differ too much")
        if error.code in _TRANSIENT or error.response.status >= 500 or error.response.status in (408, 425, 429):
            return Transient(words, store=STORE)
        return ProtocolError(f"{words}: {error.message}")


class _Hashing:
    """A file that is hashed while it is read."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self.digest.update(piece)
        return piece


def _lifetime(seconds: float) -> timedelta:
    """Returns how long a URL is valid from its date, which lies back."""
    return min(MAX_LIFETIME, BACKDATED + timedelta(seconds=seconds))


def _seconds(modified: datetime | None) -> float:
    return 0.0 if modified is None else modified.timestamp()
