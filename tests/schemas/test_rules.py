"""The rules of `schemas/README.md`: their ids are unique, and each one is kept by the plain client or by a test."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ID = re.compile(r"R-[A-Z]+-\d+")
STATED = re.findall(r"^- \*\*(R-[A-Z]+-\d+)\*\* ", (ROOT / "schemas" / "README.md").read_text(), re.MULTILINE)
PLAIN_CLIENT = "".join((ROOT / "examples" / name).read_text() for name in ("plain_amqp_client.py", "plain_model.py"))

TESTED = {
    "R-ENVELOPE-1": "tests/schemas/test_rules_of_messages.py::test_a_message_needs_no_more_of_its_envelope_than_its_kind",
    "R-ENVELOPE-3": "tests/schemas/test_contract_documents.py::test_the_cause_of_a_message_is_the_id_of_an_earlier_one",
    "R-FORM-1": "tests/schemas/test_rules_of_messages.py::test_no_content_type_counts_as_msgpack",
    "R-USER-1": "tests/schemas/test_rules_of_messages.py::test_with_an_account_of_its_own_a_client_is_named_as_its_account",
    "R-USER-2": "tests/schemas/test_rules_of_messages.py::test_with_a_shared_account_the_address_names_the_sender",
    "R-USER-3": "tests/schemas/test_rules_of_messages.py::test_the_address_of_an_event_ends_in_its_name",
    "R-UNIT-1": "tests/schemas/test_rules_of_messages.py::test_the_seed_of_a_task_has_31_bits",
    "R-UNIT-2": "tests/system/test_plain_client.py::test_a_client_of_pika_and_urllib_alone_trains_in_a_session",
    "R-EXPIRY-1": "tests/schemas/test_contract_documents.py::test_a_grant_expires_after_a_minute_and_a_task_at_its_deadline",
    "R-GRANT-1": "tests/reducer/test_membership.py::test_",
    "R-PRESENCE-2": "tests/combiner/test_presence.py::test_",
    "R-PACKAGE-1": "tests/schemas/test_rules_of_messages.py::test_a_client_of_another_package_takes_no_part",
    "R-PACKAGE-2": "tests/schemas/test_rules_of_messages.py::test_the_hash_of_a_package_can_be_computed_from_the_rule",
    "R-OUTCOME-1": "tests/combiner/test_answers.py::test_",
    "R-VALIDATION-3": "tests/reducer/sessions/test_windows.py::test_",
    "R-LOCAL-1": "tests/sandbox/test_personal_models.py::test_",
}
"""Rules that the plain client does not name, with a test that keeps each; `test_` alone stands for those of its file."""
ADVICE = {"R-MANDATORY-1", "R-KEEP-1", "R-HTTP-3", "R-VALIDATION-4", "R-OUTCOME-1"}
"""Rules that forbid nothing, or that another rule keeps."""


def test_the_ids_of_rules_are_unique() -> None:
    assert len(STATED) > 40
    assert len(STATED) == len(set(STATED))


def test_every_rule_that_the_plain_client_names_is_stated() -> None:
    named = set(ID.findall(PLAIN_CLIENT))
    assert len(named) > 20
    assert named <= set(STATED)


def test_every_rule_is_kept_by_the_plain_client_or_by_a_test() -> None:
    assert set(STATED) - set(ID.findall(PLAIN_CLIENT)) - TESTED.keys() <= ADVICE
    assert TESTED.keys() <= set(STATED)


def test_the_tests_of_the_rules_exist() -> None:
    for rule, test in TESTED.items():
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / file).read_text(), rule
