"""Keys of blobs and records: their text is a contract with readers, and each one is parsed as it was made."""

from __future__ import annotations

from typing import Any

import pytest

from fedmq_schemas import keys
from fedmq_schemas.messages import PlanKey

HASH = "0a1b2c3d4e5f" + "6" * 52
PLAN = PlanKey(session="s1", round=3, attempt=2, part=1)
OF_SCORING = PlanKey(session="s1", round=3, attempt=2, part=1, action="validate")
IN_ROUND = "updates/s1/000003"

EXPIRING = {
    keys.update_blob("s1", 3, "client1", HASH): f"{IN_ROUND}/client1/{HASH}",
    keys.upload_blob("s1", 3, "client1", "5f4e"): f"{IN_ROUND}/client1/upload-5f4e",
    keys.update_blob("s1", 3, "optimizer-1", HASH): f"{IN_ROUND}/optimizer-1/{HASH}",
    keys.clients_blob(PLAN): f"{IN_ROUND}/clients-train-2-1.json",
    keys.clients_blob(OF_SCORING): f"{IN_ROUND}/clients-validate-2-1.json",
    keys.checkpoint_blob(PLAN, "combiner1"): f"{IN_ROUND}/checkpoint-2-1-combiner1.json",
    keys.checkpoint_sum_blob(PLAN, "combiner1", HASH): f"{IN_ROUND}/checkpoint-2-1-combiner1-0a1b2c3d4e5f",
    keys.partial_sum_blob(PLAN, "combiner1", HASH): f"{IN_ROUND}/partial-2-1-combiner1-0a1b2c3d4e5f",
    keys.partial_ledger_blob(PLAN, "combiner1", HASH): f"{IN_ROUND}/ledger-2-1-combiner1-0a1b2c3d4e5f.json",
}
LASTING = {
    keys.round_ledger_blob("s1", 3): f"{IN_ROUND}/ledger.json",
    keys.optimizer_blob("s1", 3, HASH): f"{IN_ROUND}/optimizer-0a1b2c3d4e5f",
    keys.base_blob("seed-1", HASH): "updates/seed-1/base-0a1b2c3d4e5f",
    keys.doctor_blob("5f4e"): "updates/doctor/5f4e",
    keys.model_blob("s1-0003-0a1b2c3d4e5f"): "models/s1-0003-0a1b2c3d4e5f",
}


@pytest.mark.parametrize(("made", "text"), [*EXPIRING.items(), *LASTING.items()])
def test_the_text_of_a_blob_key_is_a_contract_with_readers(made: str, text: str) -> None:
    assert made == text


@pytest.mark.parametrize("key", EXPIRING)
def test_a_blob_that_only_its_round_needs_has_the_number_of_the_round_in_its_key(key: str) -> None:
    assert keys.expiring_round(key) == 3
    assert key.startswith(keys.session_blobs("s1"))


@pytest.mark.parametrize("key", LASTING)
def test_models_bases_ledgers_of_rounds_and_optimizer_states_do_not_expire_with_a_round(key: str) -> None:
    assert keys.expiring_round(key) is None


@pytest.mark.parametrize("name", [keys.update_blob, keys.upload_blob])
def test_every_upload_of_a_client_lies_under_the_prefix_of_its_task_and_under_no_other_client_s(name: Any) -> None:
    """The prefix of `client-1` was also that of `client-1-2`."""
    prefix = keys.upload_prefix("s1", 3, "client-1")
    assert name("s1", 3, "client-1", HASH).startswith(prefix)
    for other in ("client-11", "client-1-2", "client-1-"):
        assert not name("s1", 3, other, HASH).startswith(prefix)
    assert keys.is_upload(name("s1", 3, "client-1", HASH))


def test_no_other_blob_of_a_round_is_an_upload_and_the_ledgers_are_told_apart() -> None:
    uploads = {key for key in [*EXPIRING, *LASTING] if keys.is_upload(key)}
    assert uploads == {key for key in EXPIRING if key.count("/") == 4}
    ledgers = {key for key in [*EXPIRING, *LASTING] if keys.is_ledger(key)}
    assert ledgers == {keys.round_ledger_blob("s1", 3), keys.partial_ledger_blob(PLAN, "combiner1", HASH)}
    assert all(key.startswith(keys.round_blobs("s1", 3)) for key in uploads | ledgers)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (keys.committed_model("s1", 3, HASH), "s1-0003-0a1b2c3d4e5f"),
        (keys.seed_model(HASH), "seed-0a1b2c3d4e5f"),
        (keys.shared_model("seed-0", HASH), "seed-0-shared-0a1b2c3d4e5f"),
    ],
)
def test_a_model_is_found_by_its_id_or_by_its_blob_key(made: str, text: str) -> None:
    assert made == text
    assert keys.model_id(keys.model_blob(made)) == made
    assert keys.named_model(keys.model_blob(made)) == keys.named_model(made) == made


def test_the_models_of_a_session_share_a_prefix_that_is_no_other_sessions() -> None:
    made = keys.model_blob(keys.committed_model("s1", 3, HASH))
    assert made.startswith(keys.models_of_session("s1"))
    assert made.startswith(keys.ALL_MODELS)
    assert not made.startswith(keys.models_of_session("s"))


def test_the_text_of_a_record_key_is_a_contract_with_readers() -> None:
    assert keys.round_record("s1", 3) == "s1/000003"
    assert keys.attempt_record("s1", 3, 2) == "s1/000003/0002"
    assert keys.partial_record(PLAN) == "s1/3/train/2/1"
    assert keys.validation_record("s2", "s1-0003-0a1b2c3d4e5f", "client1") == "s2/s1-0003-0a1b2c3d4e5f/client1"
    assert keys.summary_record("s2", "s1-0003-0a1b2c3d4e5f") == "s2/s1-0003-0a1b2c3d4e5f"


def test_the_id_of_a_validations_event_names_session_model_and_client() -> None:
    assert keys.validated_event("s2", "s1-0003-0a1b2c3d4e5f", "client1") == "validated-s2/s1-0003-0a1b2c3d4e5f/client1"
    assert keys.validated_event("a-b", "c", "d") != keys.validated_event("a", "b-c", "d")


@pytest.mark.parametrize("letter", ["m", "é", "模", "🜁"])
def test_a_validations_event_id_fits_in_a_message_and_stays_the_validations_own(letter: str) -> None:
    model = letter * 200
    found = {
        keys.validated_event(session, each, client)
        for session in ("s" * 64, "t" * 64)
        for each in (model, f"{model[1:]}x")
        for client in ("c" * 64, "d" * 64)
    }
    assert len(found) == 8
    assert all(len(each.encode()) <= 200 and each.startswith("validated-") for each in found)
