"""The contract of the blob port, on every adapter: content, keys and listings."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fedmq.blobs import transfer
from fedmq.blobs.base import Blobs
from fedmq.blobs.s3 import S3Blobs
from fedmq.errors import InvalidUpdate, NotFound, ProtocolError
from fedmq_schemas.messages import BlobRef

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def keys(blobs: Blobs, prefix: str) -> list[str]:
    found = [info.key for info in blobs.list(prefix)]
    return sorted(found) if isinstance(blobs, S3Blobs) else found


def test_put_returns_size_and_hash_and_get_the_bytes(blobs: Blobs) -> None:
    assert blobs.put("updates/s/1/a", CONTENT) == BlobRef(key="updates/s/1/a", size=len(CONTENT), sha256=SHA256)
    assert blobs.get("updates/s/1/a") == CONTENT


def test_a_file_is_put_like_bytes(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "delta").write_bytes(CONTENT)
    assert blobs.put("updates/s/1/a", tmp_path / "delta") == blobs.put("updates/s/1/a", CONTENT)
    assert blobs.get("updates/s/1/a") == CONTENT


def test_a_file_that_is_not_there_is_not_found(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing-here"):
        blobs.put("models/a", tmp_path / "nothing-here")


def test_an_empty_blob_is_a_blob(blobs: Blobs, tmp_path: Path) -> None:
    ref = blobs.put("models/empty", b"")
    assert ref.size == 0
    assert blobs.get("models/empty") == b""
    assert blobs.fetch(ref, tmp_path / "empty").read_bytes() == b""


def test_the_same_key_again_replaces(blobs: Blobs) -> None:
    blobs.put("models/a", CONTENT)
    blobs.put("models/a", b"other")
    assert blobs.get("models/a") == b"other"
    assert blobs.stat("models/a").size == 5


def test_a_part_is_read_and_fewer_bytes_past_the_end(blobs: Blobs) -> None:
    blobs.put("models/a", b"0123456789")
    assert blobs.read("models/a", 0, 4) == b"0123"
    assert blobs.read("models/a", 4, 4) == b"4567"
    assert blobs.read("models/a", 8, 4) == b"89"
    assert blobs.read("models/a", 10, 4) == b""
    assert blobs.read("models/a", 99, 4) == b""
    assert blobs.read("models/a", 3, 0) == b""


def test_load_and_fetch_give_the_content(blobs: Blobs, tmp_path: Path) -> None:
    ref = blobs.put("models/a", CONTENT)
    assert blobs.load(ref) == CONTENT
    assert blobs.fetch(ref, tmp_path / "model").read_bytes() == CONTENT
    assert not (tmp_path / "model.partial").exists()


@pytest.mark.parametrize(
    "ref",
    [
        BlobRef(key="models/a", size=len(CONTENT) - 1, sha256=SHA256),
        BlobRef(key="models/a", size=len(CONTENT) + 1, sha256=SHA256),
        BlobRef(key="models/a", size=len(CONTENT), sha256="0" * 64),
    ],
    ids=["shorter", "longer", "other content"],
)
def test_what_is_not_as_announced_is_refused_and_leaves_nothing(blobs: Blobs, ref: BlobRef, tmp_path: Path) -> None:
    blobs.put("models/a", CONTENT)
    folder = tmp_path / "scratch"
    folder.mkdir()
    with pytest.raises(InvalidUpdate, match="models/a"):
        blobs.load(ref)
    with pytest.raises(InvalidUpdate, match="models/a"):
        blobs.fetch(ref, folder / "model")
    assert list(folder.iterdir()) == []


def test_an_absent_key_is_not_found(blobs: Blobs, tmp_path: Path) -> None:
    for call in (
        lambda: blobs.get("models/none"),
        lambda: blobs.get("models/deep/er/none"),
        lambda: blobs.read("models/none", 0, 1),
        lambda: blobs.stat("models/none"),
        lambda: blobs.load(BlobRef(key="models/none", size=0, sha256=SHA256)),
        lambda: blobs.fetch(BlobRef(key="models/none", size=0, sha256=SHA256), tmp_path / "x"),
    ):
        with pytest.raises(NotFound, match="models/"):
            call()


def test_a_folder_of_blobs_is_not_a_blob(blobs: Blobs) -> None:
    blobs.put("updates/s/1/a", CONTENT)
    with pytest.raises(NotFound):
        blobs.get("updates/s/1")
    with pytest.raises(NotFound):
        blobs.stat("updates/s")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "models",
        "models/",
        "/models/a",
        "other/a",
        "models/../secret",
        "models/a/../../secret",
        "models//a",
        "models/a/",
        "models/.hidden",
        "models/a\\b",
        "models/a\0",
        "models/a\n",
        "models/" + "x" * 1024,
    ],
)
def test_a_malformed_key_is_refused_by_every_method(blobs: Blobs, key: str, tmp_path: Path) -> None:
    ref = BlobRef.model_construct(key=key, size=0, sha256=SHA256)
    calls: list[Any] = [
        lambda: blobs.put(key, CONTENT),
        lambda: blobs.get(key),
        lambda: blobs.read(key, 0, 1),
        lambda: blobs.fetch(ref, tmp_path / "x"),
        lambda: blobs.stat(key),
        lambda: blobs.delete(key),
        lambda: blobs.presign_get(key, 60),
        lambda: blobs.presign_put(key, 60),
        lambda: blobs.presign_upload(ref, 60),
    ]
    for call in calls:
        with pytest.raises(ProtocolError, match="blob key"):
            call()


def test_stat_and_list_return_size_and_time(blobs: Blobs) -> None:
    blobs.put("models/a", CONTENT)
    info = blobs.stat("models/a")
    assert (info.key, info.size) == ("models/a", len(CONTENT))
    assert info.modified > 1_500_000_000
    [listed] = blobs.list("models/")
    assert (listed.key, listed.size) == (info.key, info.size)
    assert listed.modified == pytest.approx(info.modified, abs=1.0)


def test_a_listing_is_in_key_order_and_the_prefix_may_end_anywhere(blobs: Blobs) -> None:
    # "-" sorts before "/" and "0" after it: folder by folder is not key order.
    names = ["updates/s/1/b", "updates/s/1/a/x", "updates/s/1/a-x", "updates/s/1/a0", "updates/s/10/a", "updates/t/1/a"]
    for key in [*names, "models/m"]:
        blobs.put(key, b"x")
    assert keys(blobs, "updates/") == sorted(names)
    assert keys(blobs, "updates/s/1") == sorted(name for name in names if name.startswith("updates/s/1"))
    assert keys(blobs, "updates/s/1/") == sorted(name for name in names if name.startswith("updates/s/1/"))
    assert keys(blobs, "updates/s/1/a") == ["updates/s/1/a-x", "updates/s/1/a/x", "updates/s/1/a0"]
    assert keys(blobs, "models") == ["models/m"]
    assert keys(blobs, "") == ["models/m", *sorted(names)]
    for nothing in ("other/", "updates/x", "models/../", "/", "updates/s/1/b/"):
        assert keys(blobs, nothing) == []


def test_deleting_while_listing_is_fine(blobs: Blobs) -> None:
    for number in range(5):
        blobs.put(f"updates/s/1/{number}", b"x")
    for info in blobs.list("updates/s/"):
        blobs.delete(info.key)
    assert keys(blobs, "updates/") == []


def test_delete_is_idempotent(blobs: Blobs) -> None:
    blobs.put("updates/s/1/a", CONTENT)
    blobs.put("updates/s/2/a", CONTENT)
    blobs.delete("updates/s/1/a")
    blobs.delete("updates/s/1/a")
    blobs.delete("updates/never/was")
    assert keys(blobs, "updates/") == ["updates/s/2/a"]


def test_names_may_hold_what_urls_must_quote(blobs: Blobs, tmp_path: Path) -> None:
    key = "updates/s/1/größe 50% + a=b&c?d#e~"
    ref = transfer.put(key, blobs.presign_put(key, 60), CONTENT)
    assert transfer.get(ref, blobs.presign_get(key, 60)) == CONTENT
    assert keys(blobs, "updates/s/1/gr") == [key]
    blobs.delete(key)
    assert keys(blobs, "updates/") == []


def test_presigned_urls_lead_both_ways(blobs: Blobs, tmp_path: Path) -> None:
    ref = transfer.put("updates/s/1/a", blobs.presign_put("updates/s/1/a", 60), CONTENT)
    assert blobs.get("updates/s/1/a") == CONTENT
    (tmp_path / "file").write_bytes(CONTENT)
    assert transfer.put("updates/s/1/b", blobs.presign_put("updates/s/1/b", 60), tmp_path / "file").sha256 == SHA256
    url = blobs.presign_get("updates/s/1/a", 60)
    assert transfer.get(ref, url) == CONTENT
    assert transfer.fetch(ref, url, tmp_path / "model").read_bytes() == CONTENT


def test_the_url_of_an_upload_accepts_its_content_again_and_again(blobs: Blobs, tmp_path: Path) -> None:
    ref = BlobRef(key="updates/s/1/größe 50% + a=b&c?d#e~", size=len(CONTENT), sha256=SHA256)
    assert blobs.binds_uploads()
    upload = blobs.presign_upload(ref, 60)
    (tmp_path / "file").write_bytes(CONTENT)
    for source in (CONTENT, tmp_path / "file"):
        assert transfer.put(ref.key, upload.url, source, upload.headers) == ref
        assert blobs.load(ref) == CONTENT


def test_a_presigned_url_of_an_absent_blob_is_not_found(blobs: Blobs) -> None:
    ref = BlobRef(key="models/none", size=1, sha256=SHA256)
    with pytest.raises(NotFound):
        transfer.get(ref, blobs.presign_get("models/none", 60))


def test_a_reader_sees_the_old_or_the_new_blob_and_nothing_between(blobs: Blobs) -> None:
    contents = [bytes([number]) * 200_000 for number in range(4)]
    blobs.put("models/a", contents[0])
    done = threading.Event()

    def read() -> bool:
        while not done.is_set():
            if blobs.get("models/a") not in contents:
                return False
        return True

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for number in range(20):
            blobs.put("models/a", contents[number % 4])
        done.set()
    assert all(reader.result() for reader in readers)


def test_many_threads_put_and_delete_side_by_side(blobs: Blobs) -> None:
    def work(number: int) -> None:
        for turn in range(10):
            key = f"updates/s/{turn}/{number}"
            blobs.put(key, CONTENT)
            assert blobs.get(key) == CONTENT
            blobs.delete(key)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert keys(blobs, "updates/") == []
