"""Checks of the stores, from where they are used: by a server with its keys, or by a client over URLs alone."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from fedmq import tls
from fedmq.blobs import transfer
from fedmq.blobs.base import Blobs
from fedmq.blobs.http import Attempts
from fedmq.connection_faults import fault
from fedmq.errors import ConfigError, FedMQError, NotFound, Transient
from fedmq.process.connect import open_blobs, open_records
from fedmq.process.settings import BlobSettings, ClientSettings, RecordSettings
from fedmq_cli.doctor.findings import Notable
from fedmq_cli.doctor.inquiry import Inquired
from fedmq_schemas import keys
from fedmq_schemas.messages import BlobRef

BLOB_SIZE = 4 << 20
"""Bytes. A disk that is nearly full still has room for a small blob."""
SECONDS = 5.0
MOST_SKEW = 240.0
"""Seconds. Presigned URLs are dated five minutes back, so a larger skew makes them invalid."""
NOTABLE_SKEW = 5.0


def blobs(settings: BlobSettings) -> str:
    """Writes a blob of 4 MB, fetches it as a client would, and deletes it. Tries whether the store binds uploads."""
    store = open_blobs(settings, patience=SECONDS, retries=0)
    key = keys.doctor_blob(secrets.token_hex(8))
    ref = _put(store, key, secrets.token_bytes(BLOB_SIZE), settings)
    try:
        try:
            transfer.get(ref, store.presign_get(key, 60.0), timeout=SECONDS)
        except FedMQError as error:
            public = settings.minio_public_url or "the server's own address"
            raise ConfigError(
                f"a presigned URL does not lead back to the blob ({error.reason}): clients use {public}, "
                "see FEDN_MINIO_PUBLIC_URL"
            ) from error
    finally:
        store.delete(key)
    where = f"S3 at {settings.minio_host}:{settings.minio_port}"
    if not store.binds_uploads():
        raise Notable(
            f"{where} ignores the size and SHA-256 that a URL's signature binds: combiners copy each update before they "
            "fold it, and a client can upload more bytes than it announces; install a version that checks signed headers"
        )
    return f"{where}: 4 MB written, fetched by a presigned URL, deleted; an upload of other bytes is refused"


def _put(store: Blobs, key: str, data: bytes, settings: BlobSettings) -> BlobRef:
    """Puts a blob. Raises ConfigError if the server speaks no TLS, or answers reads and takes no writes."""
    try:
        return store.put(key, data)
    except Transient as error:
        if tls.is_plain_answer(error):
            raise ConfigError(
                f"the port {settings.minio_host}:{settings.minio_port} speaks no TLS: set FEDN_MINIO_TLS=false, or name "
                "the server's https port in FEDN_MINIO_PORT"
            ) from error
        if _answers_reads(store, key):
            raise ConfigError(
                f"{error.reason}: it answers, and does not store {BLOB_SIZE >> 20} MB, so its disk is probably full: "
                "free space there; its log names the cause"
            ) from error
        raise


def _answers_reads(store: Blobs, key: str) -> bool:
    try:
        store.stat(key)
    except NotFound:
        return True
    except FedMQError:
        return False
    return True


def public_store(settings: ClientSettings) -> str:
    """Requests the page at FEDN_MINIO_PUBLIC_URL, over the same proxies and authorities as a client's transfers."""
    url = settings.minio_public_url
    if url is None:
        return "not checked: a client gets its URLs with each task; FEDN_MINIO_PUBLIC_URL, as the reducer has it, is checked"
    status, _ = _request_as_client(url)
    if status == 407 or status >= 500:
        raise ConfigError(f"{url} answered {status}{_over_proxy(url)}: ask its operator for its log")
    return f"{url} answers{_over_proxy(url)}"


def _request_as_client(url: str) -> tuple[int, str | None]:
    """Returns status and `Date` of the answer. Raises ConfigError with the remedy if there is none."""
    try:
        with Attempts(SECONDS, time.sleep, time.monotonic).request("GET", f"{url.rstrip('/')}/") as answer:
            return answer.status, answer.headers.get("Date")
    except urllib3.exceptions.HTTPError as error:
        cause = f"{url}{_over_proxy(url)} {fault(error)}"
        if _proxy(url) is not None:
            raise ConfigError(f"{cause}: correct the variable, or list the host in no_proxy") from error
        if tls.is_plain_answer(error):
            raise ConfigError(f"{cause}: it speaks no TLS, so FEDN_MINIO_PUBLIC_URL begins with http://") from error
        raise ConfigError(f"{cause}: is it running, and open to this host? See FEDN_MINIO_PUBLIC_URL") from error


def _proxy(url: str) -> tuple[str, str] | None:
    """Returns the variable that sends requests for `url` to a proxy, and the proxy's host and port without its account."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    for name in (parts.scheme, "all"):
        found = getproxies().get(name)
        if found:
            return f"{name}_proxy", found.rpartition("@")[2].rpartition("//")[2].rstrip("/")
    return None


def _over_proxy(url: str) -> str:
    proxy = _proxy(url)
    return "" if proxy is None else f" over the proxy {proxy[1]}, which {proxy[0]} names"


def clock(settings: BlobSettings) -> str:
    """Compares this machine's clock with the S3 server's."""
    url = f"{'https' if settings.minio_tls else 'http'}://{settings.minio_host}:{settings.minio_port}/"
    try:
        with urllib3.PoolManager(ssl_context=tls.context()) as pool:
            date = pool.request("GET", url, timeout=SECONDS, retries=False).headers.get("Date")
    except urllib3.exceptions.HTTPError as error:
        raise Notable(f"the S3 server sent no time: it {fault(error)}") from error
    skew, words = _skew(date)
    if abs(skew) > MOST_SKEW:
        raise ConfigError(f"{words}: presigned URLs will be refused; let both keep time by NTP")
    if abs(skew) > NOTABLE_SKEW:
        raise Notable(f"{words}: reducers' leases need clocks that agree to a second or two; use NTP")
    return words


def client_clock(settings: ClientSettings, inquired: Callable[[], Inquired]) -> str:
    """Compares this machine's clock with that of the server at FEDN_MINIO_PUBLIC_URL, or else with the reducer's.

    A client's clock signs nothing.
    """
    if settings.minio_public_url is None:
        found = inquired()
        if found.about is None:
            return f"not checked, as {found.why_not}: FEDN_MINIO_PUBLIC_URL can name a server that has the time"
        skew, words = found.ahead, _skew_words(found.ahead, "the reducer's")
    else:
        try:
            _, date = _request_as_client(settings.minio_public_url)
        except ConfigError as error:
            raise Notable(f"the server of FEDN_MINIO_PUBLIC_URL sent no time: {error.reason}") from error
        skew, words = _skew(date)
    if abs(skew) > NOTABLE_SKEW:
        raise Notable(f"{words}: times in logs do not agree, and certificates may be refused; use NTP")
    return words


def _skew(date: str | None) -> tuple[float, str]:
    """Returns by how many seconds this machine's clock is ahead of the `Date` of an answer, also in words."""
    try:
        skew = time.time() - parsedate_to_datetime(date or "").timestamp()
    except ValueError as error:
        raise Notable("the S3 server sent no time") from error
    return skew, _skew_words(skew, "the S3 server's")


def _skew_words(skew: float, other: str) -> str:
    if abs(skew) <= NOTABLE_SKEW:
        return f"agrees with {other} to {max(1.0, abs(skew)):.0f} s"
    return f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} {other}"


def records(settings: RecordSettings) -> str:
    """Inserts a document twice, of which the second must be refused, and deletes it."""
    store = open_records(settings)
    key = secrets.token_hex(8)
    mine = {"doctor": key}  # several doctors may look at a time
    try:
        store.insert("doctor", key, mine)
        if store.insert("doctor", key, mine) is None:
            raise ConfigError("the record store takes a key twice: it is no MongoDB that rounds can be committed to")
        store.delete("doctor", mine)
        version, (server, _, host) = store.version(), store.where.partition(" at ")
        return f"{server} {version} at {host}: keys are unique, documents can be written"
    finally:
        store.close()
