"""The contract of the blob port, on every adapter."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import pytest

from fedmq.blobs import transfer
from fedmq.blobs.base import Blobs
from fedmq.blobs.files import FileBlobs
from fedmq.blobs.memory import MemoryBlobs
from fedmq.blobs.s3 import S3Blobs
from fedmq.errors import ConfigError, InvalidUpdate, NotFound, ProtocolError, Refused, Transient
from fedmq_schemas.messages import BlobRef
from support.servers.seaweedfs import S3Server

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
T = TypeVar("T")


ADAPTERS = ["memory", "files", "files-fsync", pytest.param("s3", marks=pytest.mark.system)]


@pytest.fixture(params=ADAPTERS)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "memory":
        return MemoryBlobs()
    if request.param == "s3":
        return open_s3(request.getfixturevalue("s3_server"))
    return FileBlobs(tmp_path / "blobs", fsync=request.param == "files-fsync")


def open_s3(server: S3Server, **options: Any) -> S3Blobs:
    """A store that is empty, whatever the tests before put there."""
    blobs = S3Blobs(server.endpoint, server.access_key, server.secret_key, **options)
    for info in blobs.list(""):
        blobs.delete(info.key)
    return blobs


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


def test_a_part_is_read_and_past_the_end_comes_less(blobs: Blobs) -> None:
    blobs.put("models/a", b"0123456789")
    assert blobs.read("models/a", 0, 4) == b"0123"
    assert blobs.read("models/a", 4, 4) == b"4567"
    assert blobs.read("models/a", 8, 4) == b"89"
    assert blobs.read("models/a", 10, 4) == b""
    assert blobs.read("models/a", 99, 4) == b""
    assert blobs.read("models/a", 3, 0) == b""


def test_fetch_gives_a_file_with_the_content(blobs: Blobs, tmp_path: Path) -> None:
    ref = blobs.put("models/a", CONTENT)
    assert blobs.fetch(ref, tmp_path / "model").read_bytes() == CONTENT
    assert not (tmp_path / "model.partial").exists()


def test_load_gives_the_content(blobs: Blobs) -> None:
    assert blobs.load(blobs.put("models/a", CONTENT)) == CONTENT
    assert blobs.load(blobs.put("models/empty", b"")) == b""


NOT_AS_ANNOUNCED = pytest.mark.parametrize(
    "ref",
    [
        BlobRef(key="models/a", size=len(CONTENT) - 1, sha256=SHA256),
        BlobRef(key="models/a", size=len(CONTENT) + 1, sha256=SHA256),
        BlobRef(key="models/a", size=len(CONTENT), sha256="0" * 64),
    ],
    ids=["shorter", "longer", "other content"],
)


@NOT_AS_ANNOUNCED
def test_load_refuses_what_is_not_as_announced(blobs: Blobs, ref: BlobRef) -> None:
    blobs.put("models/a", CONTENT)
    with pytest.raises(InvalidUpdate, match="models/a"):
        blobs.load(ref)


@NOT_AS_ANNOUNCED
def test_fetch_refuses_what_is_not_as_announced_and_leaves_nothing(blobs: Blobs, ref: BlobRef, tmp_path: Path) -> None:
    blobs.put("models/a", CONTENT)
    folder = tmp_path / "scratch"
    folder.mkdir()
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
    ]
    for call in calls:
        with pytest.raises(ProtocolError, match="blob key"):
            call()


def test_stat_and_list_tell_size_and_time(blobs: Blobs) -> None:
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
    assert transfer.get(ref, url, tmp_path / "model").read_bytes() == CONTENT


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


# What only files show.


def test_fetch_returns_the_stores_own_file(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    ref = blobs.put("models/a", CONTENT)
    assert blobs.fetch(ref, tmp_path / "copy") == tmp_path / "blobs/models/a"


def test_a_new_store_on_the_same_folder_holds_the_same_blobs(tmp_path: Path) -> None:
    FileBlobs(tmp_path).put("models/a", CONTENT)
    assert FileBlobs(tmp_path).get("models/a") == CONTENT


def test_a_write_that_fails_leaves_the_old_blob_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = FileBlobs(tmp_path)
    blobs.put("models/a", b"old")

    def no_space(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", no_space)
    with pytest.raises(Transient, match="No space"):
        blobs.put("models/a", CONTENT)
    monkeypatch.undo()
    assert blobs.get("models/a") == b"old"
    assert list((tmp_path / ".partial").iterdir()) == []


def test_what_a_killed_writer_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    FileBlobs(tmp_path)
    for name, age in (("old", 7200.0), ("new", 60.0)):
        path = tmp_path / ".partial" / name
        path.write_bytes(b"half")
        modified = path.stat().st_mtime - age
        os.utime(path, (modified, modified))
    blobs = FileBlobs(tmp_path)
    assert [path.name for path in (tmp_path / ".partial").iterdir()] == ["new"]
    assert keys(blobs, "") == []


def test_a_killed_writer_leaves_the_old_blob_or_the_new(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom fedmq.blobs.files import FileBlobs\n"
        "blobs = FileBlobs(Path(sys.argv[1]))\n"
        "for turn in range(10**6):\n"
        "    print(turn, flush=True)\n"
        "    blobs.put('models/a', bytes([turn % 256]) * 4_000_000)\n"
    )
    blobs = FileBlobs(tmp_path)
    for turns in (2, 3, 4):
        writer = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        for _ in range(turns):
            writer.stdout.readline()
        writer.kill()  # most likely inside the write that was just announced
        writer.communicate()
        content = blobs.get("models/a")
        assert content == content[:1] * 4_000_000
        assert keys(blobs, "") == ["models/a"]


def test_a_name_is_a_blob_or_a_folder(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    blobs.put("models/a", CONTENT)
    with pytest.raises(ProtocolError, match="models/a/b"):
        blobs.put("models/a/b", CONTENT)
    with pytest.raises(NotFound):
        blobs.get("models/a/b")
    blobs.put("models/c/d", CONTENT)
    with pytest.raises(ProtocolError, match="models/c"):
        blobs.put("models/c", CONTENT)
    assert list((tmp_path / ".partial").iterdir()) == []


def test_folders_that_became_empty_are_gone(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    blobs.put("updates/s/1/a", CONTENT)
    blobs.delete("updates/s/1/a")
    assert list((tmp_path / "updates").iterdir()) == []
    blobs.put("updates/s/1/a", CONTENT)
    assert blobs.get("updates/s/1/a") == CONTENT


def test_a_folder_that_can_not_be_made_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="file/blobs"):
        FileBlobs(tmp_path / "file" / "blobs")


# What only S3 shows.

ANYWHERE = ("127.0.0.1:1", "account", "hidden")


@pytest.mark.system
def test_a_large_blob_goes_in_parts(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmq.blobs.s3.ONE_PART", 5 << 20)
    monkeypatch.setattr("fedmq.blobs.s3.PART", 5 << 20)
    content = CONTENT * 1100
    assert len(content) > 10 << 20
    blobs = open_s3(s3_server)
    (tmp_path / "large").write_bytes(content)
    ref = blobs.put("updates/s/1/large", tmp_path / "large")
    assert ref.sha256 == hashlib.sha256(content).hexdigest()
    assert blobs.fetch(ref, tmp_path / "copy").read_bytes() == content
    assert blobs.read("updates/s/1/large", (5 << 20) - 2, 4) == content[(5 << 20) - 2 : (5 << 20) + 2]


@pytest.mark.system
def test_a_large_upload_goes_in_parts_over_presigned_urls(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmq.blobs.s3.ONE_PART", 5 << 20)
    monkeypatch.setattr("fedmq.blobs.s3.PART", 5 << 20)
    blobs = open_s3(s3_server)
    content = CONTENT * 1100
    (tmp_path / "delta").write_bytes(content)
    url = blobs.presign_put("updates/s/1/a", 60, size=len(content))
    told: list[tuple[int, int]] = []
    ref = transfer.put("updates/s/1/a", url, tmp_path / "delta", progress=lambda sent, size: told.append((sent, size)))
    assert ref == BlobRef(key="updates/s/1/a", size=len(content), sha256=hashlib.sha256(content).hexdigest())
    assert blobs.fetch(ref, tmp_path / "copy").read_bytes() == content
    assert told == sorted(told) and told[-1] == (len(content), len(content))
    for size in (0, 100, 2 * len(content)):
        url = blobs.presign_put("updates/s/1/b", 60, size=len(content))
        transfer.put("updates/s/1/b", url, bytes(size))
        assert blobs.stat("updates/s/1/b").size == size
    with pytest.raises(Refused, match="more than"):
        transfer.put("updates/s/1/b", url, bytes(3 * len(content)))
    with pytest.raises(transfer.UrlExpired):
        transfer.put("updates/s/1/b", blobs.presign_put("updates/s/1/b", -290.0, size=len(content)), content)


@pytest.mark.system
def test_an_expired_or_forged_url_is_told_from_other_refusals(s3_server: S3Server) -> None:
    blobs = open_s3(s3_server)
    ref = blobs.put("models/a", CONTENT)
    early = -290.0  # the URL is dated five minutes back
    with pytest.raises(transfer.UrlExpired):
        transfer.get(ref, blobs.presign_get("models/a", early))
    with pytest.raises(transfer.UrlExpired):
        transfer.put("models/a", blobs.presign_put("models/a", early), b"other")
    for url in (blobs.presign_get("models/a", 60), blobs.presign_put("models/b", 60)):
        with pytest.raises(transfer.UrlExpired):
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
    assert until_served(lambda: blobs.get("models/a")) == CONTENT
    assert until_served(lambda: blobs.put("models/b", CONTENT)).size == len(CONTENT)


def until_served(call: Callable[[], T], seconds: float = 30.0) -> T:
    """A server that listens again may still be gathering its volumes: what it can't do yet is Transient, and tried again."""
    ends = time.monotonic() + seconds
    while True:
        try:
            return call()
        except Transient:
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)


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
