"""The URLs of the embedded stores, which `transfer` follows as it follows those of a server."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmq.blobs import transfer
from fedmq.blobs.base import UrlExpired
from fedmq.blobs.files import FileBlobs
from fedmq.blobs.memory import MemoryBlobs
from fedmq.errors import InvalidUpdate, Refused
from fedmq_schemas.messages import BlobRef

KEY = "updates/s/1/a"
CONTENT = bytes(range(256)) * 4096

EMBEDDED: list[Callable[[Path], FileBlobs | MemoryBlobs]] = [FileBlobs, lambda folder: MemoryBlobs()]


@pytest.mark.parametrize("make", EMBEDDED, ids=["files", "memory"])
def test_embedded_urls_are_for_one_key_and_its_content_is_checked(
    make: Callable[[Path], FileBlobs | MemoryBlobs], tmp_path: Path
) -> None:
    blobs = make(tmp_path / "blobs with space")
    blobs.put(KEY, CONTENT)
    other = BlobRef(key=KEY, size=len(CONTENT), sha256=hashlib.sha256(CONTENT[::-1]).hexdigest())
    with pytest.raises(InvalidUpdate):
        transfer.get(other, blobs.presign_get(KEY, 60))
    with pytest.raises(Refused):
        transfer.put("updates/other", blobs.presign_put(KEY, 60), CONTENT)


@pytest.mark.parametrize("make", EMBEDDED, ids=["files", "memory"])
def test_an_upload_to_an_embedded_store_needs_no_headers_and_is_for_one_key(
    make: Callable[[Path], FileBlobs | MemoryBlobs], tmp_path: Path
) -> None:
    blobs = make(tmp_path / "blobs")
    ref = BlobRef(key=KEY, size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
    upload = blobs.presign_upload(ref, 60)
    assert upload.headers == {} and blobs.binds_uploads()
    assert transfer.put(KEY, upload.url, CONTENT) == ref
    with pytest.raises(Refused):
        transfer.put("updates/other", upload.url, CONTENT)


def test_the_memory_url_of_an_upload_accepts_no_other_content_and_expires() -> None:
    now = [0.0]
    blobs = MemoryBlobs(lambda: now[0])
    ref = BlobRef(key=KEY, size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
    url = blobs.presign_upload(ref, 60).url
    with pytest.raises(Refused, match="other content"):
        transfer.put(KEY, url, CONTENT[::-1])
    assert not [*blobs.list("")]
    now[0] = 60.0
    with pytest.raises(UrlExpired):
        transfer.put(KEY, url, CONTENT)


def test_a_file_url_is_not_copied(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    ref = blobs.put(KEY, CONTENT)
    assert transfer.fetch(ref, blobs.presign_get(KEY, 60), tmp_path / "model") == tmp_path / KEY
    assert not (tmp_path / "model").exists()


def test_a_file_url_leads_nowhere_but_into_a_store_of_this_process(tmp_path: Path) -> None:
    (tmp_path / "updates/s/1").mkdir(parents=True)
    with pytest.raises(Refused):
        transfer.put(KEY, f"file://{tmp_path}/{KEY}", CONTENT)
    assert not (tmp_path / KEY).exists()


def test_a_memory_url_expires_and_is_for_one_method() -> None:
    now = [0.0]
    blobs = MemoryBlobs(lambda: now[0])
    ref = blobs.put(KEY, CONTENT)
    url = blobs.presign_get(KEY, 60)
    with pytest.raises(Refused):
        transfer.put(KEY, url, CONTENT)
    now[0] = 59.0
    assert transfer.get(ref, url) == CONTENT
    now[0] = 60.0
    with pytest.raises(UrlExpired):
        transfer.get(ref, url)
