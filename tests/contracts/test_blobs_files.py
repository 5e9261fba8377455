"""The contract of blobs in files, beyond the port."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fedmq.blobs.files import FileBlobs
from fedmq.errors import ConfigError, NotFound, ProtocolError, Refused, Transient

CONTENT = bytes(range(256)) * 40


def test_fetch_returns_the_stores_own_file(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    ref = blobs.put("models/a", CONTENT)
    assert blobs.fetch(ref, tmp_path / "copy") == tmp_path / "blobs/models/a"


def test_a_write_that_fails_leaves_the_old_blob_and_no_rest(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    blobs.put("models/a", b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # as on a full disk
    try:
        with pytest.raises(Transient, match="File too large"):
            blobs.put("models/a", CONTENT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
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
    assert list(blobs.list("")) == []


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
        assert [info.key for info in blobs.list("")] == ["models/a"]


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


def test_a_store_that_is_only_read_changes_nothing_and_refuses_to(tmp_path: Path) -> None:
    FileBlobs(tmp_path / "blobs").put("models/a", CONTENT)
    blobs = FileBlobs(tmp_path / "blobs", read_only=True)
    assert blobs.get("models/a") == CONTENT
    with pytest.raises(Refused, match="only read here"):
        blobs.put("models/b", CONTENT)
    with pytest.raises(Refused, match="only read here"):
        blobs.delete("models/a")
    assert [each.key for each in blobs.list("models/")] == ["models/a"]
    assert list(FileBlobs(tmp_path / "none", read_only=True).list("models/")) == []
    assert not (tmp_path / "none").exists()
