"""`fedmq backup` and `fedmq restore`, on the folder of a sandbox that is still running."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cli.verbs import Verb, checked, trained
from fedmq.blobs.files import FileBlobs
from fedmq.blobs.memory import MemoryBlobs
from fedmq.errors import ConfigError, Transient
from fedmq.records.base import Lease
from fedmq.records.documents import LEASE_KEY, LEASE_TABLE
from fedmq.records.sqlite import SqliteRecords
from fedmq_cli.backup.backing_up import back_up
from fedmq_cli.backup.consistency import check
from fedmq_cli.backup.copying import Copied
from fedmq_cli.backup.named_blobs import NamedBlob
from fedmq_cli.backup.progress import BlobProgress
from fedmq_cli.backup.restoring import restore
from fedmq_cli.backup.snapshot import copy_table
from fedmq_cli.backup.stores import Stores, opened
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from fedmq_schemas.messages import BlobRef
from support.servers.served import Served


class Target(NamedTuple):
    """Empty stores, in memory."""

    records: SqliteRecords
    blobs: MemoryBlobs

    @property
    def stores(self) -> Stores:
        return Stores(self.records, self.blobs, "alliance target")


@pytest.fixture
def target() -> Iterator[Target]:
    with closing(SqliteRecords(":memory:")) as records:
        yield Target(records, MemoryBlobs())


def _backed_up(source: Stores, folder: Path) -> Copied:
    return back_up(source, folder, BlobProgress())


def _restored(folder: Path, target: Target) -> Copied:
    with opened(folder) as backup:
        return restore(backup, folder, target.stores, BlobProgress())


@pytest.fixture
def source(alliance: Served) -> Stores:
    return Stores(alliance.box.records, alliance.box.blobs, "alliance source")


def test_a_backup_is_a_folder_whose_models_verify_and_a_second_one_copies_only_what_is_new(
    fedmq: Verb, folder: Path, tmp_path: Path
) -> None:
    first = trained(fedmq)["model"]
    result = fedmq("backup", tmp_path / "b", "--state-dir", folder, "--json")
    assert result.exit_code == 0, result.output
    copied = json.loads(result.stdout)["blobs"]
    assert copied > 12
    second = trained(fedmq)["model"]
    again = json.loads(fedmq("backup", tmp_path / "b", "--state-dir", folder, "--json").stdout)
    assert again["present"] >= copied > again["blobs"] > 0
    for model in (first, second):
        verified = fedmq("model", "verify", model, "--state-dir", tmp_path / "b")
        assert "recomputed: the same bytes" in verified.stdout, verified.output
    assert checked(fedmq, tmp_path / "b", 0)["unrecorded"] == []
    shown = fedmq("backup", tmp_path / "b", "--state-dir", folder)
    assert "0 blobs copied (0.0 MB)" in shown.stdout and "fedmq model verify --all --state-dir" in shown.stdout


def test_the_records_of_a_running_session_end_with_its_newest_copied_round(
    fedmq: Verb, source: Stores, tmp_path: Path, target: Target
) -> None:
    """Rounds that are committed while the tables are read leave nothing in the copy."""
    session = trained(fedmq)["session"]
    backup = tmp_path / "b"
    with closing(SqliteRecords(":memory:")) as records:
        for table in tables.TABLES:
            copy_table(source.records, records, table)
        records.update(tables.SESSIONS, session, {"state": "running"})
        records.delete(tables.ROUNDS, {"session": session, "round": [2, 3]})
        _backed_up(Stores(records, source.blobs, "x"), backup)
    with opened(backup) as copy:
        of_session = {"session": session}
        rounds = {
            table: sorted({document["round"] for document in copy.records.find(table, of_session)} - {None})
            for table in (tables.ATTEMPTS, tables.PARTICIPATION, tables.MODELS, tables.VALIDATIONS, tables.EVENTS)
        }
        partials = copy.records.find(tables.PARTIALS, of_session)
    assert all(max(numbers) == 1 for numbers in rounds.values()), rounds
    assert {each["partial"]["plan"]["round"] for each in partials} == {1}


def test_a_restored_alliance_has_every_record_and_blob_and_later_epochs(
    fedmq: Verb, source: Stores, tmp_path: Path, target: Target
) -> None:
    model = trained(fedmq)["model"]
    _backed_up(source, tmp_path / "b")
    copied = _restored(tmp_path / "b", target)
    found = check(target.records, target.blobs, BlobProgress())
    assert (copied.faults, found.faults, found.unrecorded) == ([], [], [])
    assert target.records.get(tables.MODELS, model) == source.records.get(tables.MODELS, model)
    for table in (tables.SESSIONS, tables.ROUNDS, tables.MODELS, tables.CLIENTS):
        assert dict(target.records.page(table)) == dict(source.records.page(table))
    before = source.records.get(LEASE_TABLE, LEASE_KEY)
    lease = target.records.acquire("reducer", 1.0)
    assert before is not None and isinstance(lease, Lease)
    assert lease.epoch > before["epoch"] + 1000


def test_an_interrupted_restore_continues_and_leaves_no_record_without_its_blob(
    fedmq: Verb, source: Stores, tmp_path: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(fedmq)
    _backed_up(source, tmp_path / "b")
    put, left = target.blobs.put, [5]

    def failing(key: str, data: Any) -> Any:
        if not left[0]:
            raise Transient("the S3 server at s3 failed: ReadTimeout")
        left[0] -= 1
        return put(key, data)

    with monkeypatch.context() as patched:
        patched.setattr(target.blobs, "put", failing)
        with pytest.raises(Transient):
            _restored(tmp_path / "b", target)
    assert sum(target.records.count(table) for table in tables.TABLES) == 0
    put_many, writes = target.records.put_many, [3]

    def failing_writes(*args: Any) -> None:
        if not writes[0]:
            raise Transient("MongoDB at mongo failed: AutoReconnect")
        writes[0] -= 1
        put_many(*args)

    with monkeypatch.context() as patched:
        patched.setattr(target.records, "put_many", failing_writes)
        with pytest.raises(Transient):
            _restored(tmp_path / "b", target)
    assert _restored(tmp_path / "b", target).blobs == 0
    assert check(target.records, target.blobs, BlobProgress()).faults == []
    with pytest.raises(ConfigError, match=r"alliance target is not empty: it has 5 sessions[.]"):
        _restored(tmp_path / "b", target)


def test_a_restore_is_refused_while_a_reducer_decides_or_other_blobs_have_the_keys(
    fedmq: Verb, source: Stores, tmp_path: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(fedmq)["model"]
    _backed_up(source, tmp_path / "b")
    lease = target.records.acquire("reducer", 60.0)
    assert isinstance(lease, Lease)
    with monkeypatch.context() as patched:
        patched.setattr("time.sleep", lambda _: target.records.renew(lease, 60.0))
        with pytest.raises(ConfigError, match="stop all its reducers"):
            _restored(tmp_path / "b", target)
    target.records.release(lease)
    target.blobs.put(keys.model_blob(model), b"another alliance's")
    with pytest.raises(ConfigError, match=f"holds another models/{model}.*FEDN_MINIO_BUCKET_PREFIX"):
        _restored(tmp_path / "b", target)
    target.blobs.delete(keys.model_blob(model))
    assert _restored(tmp_path / "b", target).faults == []


def test_an_interrupted_backup_leaves_the_earlier_one_and_continues(
    fedmq: Verb, source: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(fedmq)
    _backed_up(source, tmp_path / "b")
    earlier = (tmp_path / "b" / "records.db").read_bytes()
    model = trained(fedmq)["model"]

    def failing(*_: Any) -> Path:
        raise Transient("the S3 server at s3 failed: ReadTimeout")

    with monkeypatch.context() as patched:
        patched.setattr(source.blobs, "fetch", failing)
        with pytest.raises(Transient):
            _backed_up(source, tmp_path / "b")
    assert (tmp_path / "b" / "records.db").read_bytes() == earlier
    assert fedmq("model", "verify", "--all", "--state-dir", tmp_path / "b").exit_code == 0
    _backed_up(source, tmp_path / "b")
    assert fedmq("model", "verify", model, "--state-dir", tmp_path / "b").exit_code == 0


def test_a_backup_reports_what_is_gone_at_its_source_and_copies_the_rest(
    fedmq: Verb, source: Stores, folder: Path, tmp_path: Path
) -> None:
    key = keys.model_blob(trained(fedmq)["model"])
    data = source.blobs.get(key)
    source.blobs.delete(key)
    try:
        result = fedmq("backup", tmp_path / "b", "--state-dir", folder)
    finally:
        source.blobs.put(key, data)
    assert result.exit_code == 1 and f"{key}  is gone" in result.stdout
    assert [fault["blob"] for fault in checked(fedmq, tmp_path / "b", 1)["faults"]] == [key]


def test_a_model_that_retention_deletes_while_blobs_are_copied_is_no_fault(
    fedmq: Verb, source: Stores, tmp_path: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = trained(fedmq, "strategy.name=fedadam")["session"]
    with closing(SqliteRecords(":memory:")) as records:
        for table in tables.TABLES:
            copy_table(source.records, records, table)
        first = records.find(tables.MODELS, {"session": session}, order="round")[0]
        blobs = MemoryBlobs()
        for info in source.blobs.list(""):
            blobs.put(info.key, source.blobs.get(info.key))
        fetch = blobs.fetch

        def deleting(ref: Any, into: Path) -> Path:
            if records.get(tables.MODELS, first["model"]) == first:
                records.update(tables.MODELS, first["model"], {"kept": False, "deleted": True})
                committed = records.find(tables.ROUNDS, {"session": session}, order="round")[0]
                for key in (first["ref"]["key"], committed["optimizer"]["key"]):
                    blobs.delete(key)
            return fetch(ref, into)

        monkeypatch.setattr(blobs, "fetch", deleting)
        assert _backed_up(Stores(records, blobs, "x"), tmp_path / "b").faults == []
    assert checked(fedmq, tmp_path / "b", 0)["faults"] == []


def test_folders_that_hold_something_else_are_refused(
    fedmq: Verb, source: Stores, folder: Path, tmp_path: Path, target: Target
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    result = fedmq("backup", tmp_path / "full", "--state-dir", folder)
    assert (result.exit_code, "is not empty, and no backup" in result.stderr) == (2, True)
    assert "is not empty, and no backup" in fedmq("backup", folder, "--state-dir", folder).stderr
    trained(fedmq)
    _backed_up(source, tmp_path / "b")
    with pytest.raises(ConfigError, match="a backup of alliance source, not of alliance other"):
        _backed_up(Stores(source.records, source.blobs, "alliance other"), tmp_path / "b")
    with opened(folder) as sandbox, pytest.raises(ConfigError, match="holds no complete backup"):
        restore(sandbox, folder, target.stores, BlobProgress())


def test_long_work_prints_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter(range(0, 100, 3))
    blobs = [NamedBlob(BlobRef(key=f"models/{n}", size=500_000, sha256="0" * 64), "models m", True) for n in range(5)]
    assert len(list(BlobProgress(lambda: float(next(seconds))).through(blobs, "copied"))) == 5
    assert capsys.readouterr().err == "copied: 1 of 5 blobs, 0.5 MB of 2.5 MB\ncopied: 3 of 5 blobs, 1.5 MB of 2.5 MB\n"


def test_a_table_is_copied_in_writes_that_a_small_server_takes(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore ended with a refusal: the server did not take 500 rounds in one write."""
    sizes: list[int] = []
    write = target.records.put_many

    def put_many(table: str, items: list[tuple[str, dict[str, Any]]], fence: int | None = None) -> None:
        sizes.append(len(items))
        write(table, items, fence)

    monkeypatch.setattr(target.records, "put_many", put_many)
    with closing(SqliteRecords(":memory:")) as source:
        source.put_many(tables.CLIENTS, [(f"c{number:03d}", {"client": f"c{number:03d}"}) for number in range(250)])
        copy_table(source, target.records, tables.CLIENTS)
    assert sizes == [100, 100, 50] and len(target.records.find(tables.CLIENTS)) == 250


def test_a_server_that_fails_for_a_moment_is_tried_again(
    fedmq: Verb, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(fedmq)
    trained(fedmq)
    fetch, faults = (
        FileBlobs.fetch,
        ["the S3 server at s3 failed: ReadTimeout", "MongoDB at mongo refused with code 112"],
    )

    def failing(self: FileBlobs, ref: BlobRef, path: Path) -> Any:
        if faults:
            raise Transient(faults.pop())
        return fetch(self, ref, path)

    monkeypatch.setattr(FileBlobs, "fetch", failing)
    monkeypatch.setattr("time.sleep", lambda _: None)
    done = fedmq("backup", tmp_path / "b", "--state-dir", folder)
    assert done.exit_code == 0, done.output
    assert "MongoDB at mongo refused with code 112: trying again" in done.stderr
    checked(fedmq, tmp_path / "b", 0)


def test_a_server_that_fails_for_long_ends_the_backup_with_what_to_do(
    fedmq: Verb, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(fedmq)

    def failing(*given: Any) -> Any:
        raise Transient("the S3 server at s3 failed: ReadTimeout")

    with monkeypatch.context() as patched:
        patched.setattr(FileBlobs, "fetch", failing)
        patched.setattr("fedmq_cli.backup.patience.PATIENCE", 0.0)
        done = fedmq("backup", tmp_path / "b", "--state-dir", folder)
    assert done.exit_code == 2
    assert "ReadTimeout; what is copied is kept: the same command continues" in done.stderr
    assert fedmq("backup", tmp_path / "b", "--state-dir", folder).exit_code == 0
