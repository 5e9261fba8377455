"""`fedmq model verify --all` on the folder of a sandbox that is still running."""

from __future__ import annotations

import json
from pathlib import Path

from cli.verbs import Verb, checked, trained
from fedmq_schemas import keys
from support.servers.served import Served


def test_after_a_session_all_blobs_are_as_recorded(fedmq: Verb, folder: Path) -> None:
    trained(fedmq)
    found = checked(fedmq, folder, 0)
    assert (found["faults"], found["unrecorded"], found["updates_gone"]) == ([], [], 0)
    assert found["blobs"] > 3 * 4  # of each round a model and the updates of three clients
    result = fedmq("model", "verify", "--all", "--state-dir", folder)
    assert f"{found['blobs']} blobs" in result.stdout and "0 are gone or altered" in result.stdout


def test_a_model_that_is_gone_and_one_with_other_bytes_are_listed(fedmq: Verb, alliance: Served, folder: Path) -> None:
    session = trained(fedmq)["session"]
    blobs = alliance.box.blobs
    first, second, _ = sorted(info.key for info in blobs.list(keys.models_of_session(session)))
    kept = {key: blobs.get(key) for key in (first, second)}
    blobs.delete(first)
    blobs.put(second, kept[second][:-1] + bytes([kept[second][-1] ^ 1]))
    try:
        faults = checked(fedmq, folder, 1)["faults"]
        shown = fedmq("model", "verify", "--all", "--state-dir", folder)
    finally:
        for key, data in kept.items():
            blobs.put(key, data)
    assert [fault["blob"] for fault in faults] == [first, second]
    assert faults[0]["fault"] == "is gone" and faults[1]["fault"].startswith("has sha256 ")
    assert all(fault["record"].startswith(f"rounds {session}/") for fault in faults)
    assert shown.exit_code == 1 and f"{first}  is gone" in shown.stdout


def test_a_blob_without_a_record_is_listed_and_is_no_fault(fedmq: Verb, alliance: Served, folder: Path) -> None:
    for key in ("models/forgotten", "updates/nobody/000001/client-a"):
        alliance.box.blobs.put(key, b"bytes")
    try:
        assert checked(fedmq, folder, 0)["unrecorded"] == ["models/forgotten", "updates/nobody/000001/client-a"]
        assert "  models/forgotten\n" in fedmq("model", "verify", "--all", "--state-dir", folder).stdout
    finally:
        alliance.box.blobs.delete("models/forgotten")
        alliance.box.blobs.delete("updates/nobody/000001/client-a")


def test_what_retention_deletes_is_no_fault(fedmq: Verb, folder: Path) -> None:
    trained(fedmq, "retention.keep_updates=0", "retention.keep_models=0", "strategy.name=fedadam")
    found = checked(fedmq, folder, 0)
    assert (found["faults"], found["kept_updates_gone"]) == ([], 0)
    assert found["updates_gone"] > 0


def test_what_a_forgotten_session_no_longer_has_is_no_fault(fedmq: Verb, folder: Path) -> None:
    session = trained(fedmq)["session"]
    before = checked(fedmq, folder, 0)
    assert fedmq("forget", "session", session).exit_code == 0
    found = checked(fedmq, folder, 0)
    assert (found["faults"], found["kept_updates_gone"], found["unrecorded"]) == ([], 0, before["unrecorded"])
    assert found["updates_gone"] > before["updates_gone"]


def test_a_deleted_update_of_a_session_that_keeps_them_is_exit_code_3(
    fedmq: Verb, alliance: Served, folder: Path
) -> None:
    session = trained(fedmq)["session"]
    ledger = json.loads(alliance.box.blobs.get(keys.round_ledger_blob(session, 2)))
    key = ledger["entries"][0]["blob"]["key"]
    data = alliance.box.blobs.get(key)
    alliance.box.blobs.delete(key)
    try:
        assert checked(fedmq, folder, 3)["kept_updates_gone"] == 1
    finally:
        alliance.box.blobs.put(key, data)


def test_all_takes_no_model_and_a_folder_without_records_is_refused(fedmq: Verb, folder: Path, tmp_path: Path) -> None:
    result = fedmq("model", "verify", "last-one", "--all", "--state-dir", folder)
    assert (result.exit_code, "leave out MODEL and --url" in result.stderr) == (2, True)
    result = fedmq("model", "verify", "--all", "--state-dir", tmp_path)
    assert (result.exit_code, "neither a backup nor a sandbox's state folder" in result.stderr) == (2, True)
