"""Opens the stores that a role's settings name. Their libraries are imported only then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fedmq.blobs.base import Blobs
from fedmq.errors import ConfigError
from fedmq.process.settings import BlobSettings, RecordSettings

if TYPE_CHECKING:
    from fedmq.records.mongo import MongoRecords


def open_blobs(settings: BlobSettings, *, patience: float = 60.0, retries: int = 2) -> Blobs:
    """Returns the S3 server's store, without a request. Raises `ConfigError` for a wrong address or a missing library.

    `patience` and `retries` are those of `S3Blobs`.
    """
    with _extra("minio"):
        from fedmq.blobs.s3 import S3Blobs
    return S3Blobs(
        f"{settings.minio_host}:{settings.minio_port}",
        settings.minio_access_key,
        settings.minio_secret_key.get_secret_value(),
        tls=settings.minio_tls,
        region=settings.minio_region,
        prefix=settings.minio_bucket_prefix,
        public_url=settings.minio_public_url,
        patience=patience,
        retries=retries,
    )


def open_records(settings: RecordSettings) -> MongoRecords:
    """Returns the alliance's database in MongoDB. Sends nothing yet. Raises as `open_blobs` does."""
    with _extra("pymongo"):
        from fedmq.records.mongo import MongoRecords
    password = settings.mongo_password
    if settings.mongo_url is not None:
        url = settings.mongo_url.get_secret_value()
        return MongoRecords(url, settings.mongo_port, settings.alliance, connections=settings.mongo_connections)
    return MongoRecords(
        settings.mongo_host,
        settings.mongo_port,
        settings.alliance,
        user=settings.mongo_user,
        password=password.get_secret_value() if password else None,
        use_tls=settings.mongo_tls,
        connections=settings.mongo_connections,
    )


@contextmanager
def _extra(library: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in (library, "bson"):
            raise
        raise ConfigError(f"{library} is not installed: pip install 'fedmq[server]'") from error
