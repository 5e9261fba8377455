"""Reasons that are alike are stated once, with their number."""

from fedmq.reasons import absence, alike, count_alike, fared, shortened
from fedmq_schemas.messages import OutcomeReason


def _reason(reason: str, count: int = 1, outcome: str = "failed") -> OutcomeReason:
    return OutcomeReason(outcome=outcome, reason=reason, count=count)


def test_reasons_that_differ_in_numbers_only_are_alike() -> None:
    assert alike("rejected", "its norm is 35.7579, not 2") == alike("rejected", "its norm is 1e-07, not 2")
    assert alike("failed", "object at 0x7fe80949d890") == alike("failed", "object at 0x7f")
    assert alike("failed", "no answer") != alike("absent", "no answer")
    assert alike("failed", "KeyError: 'epochs'") != alike("failed", "KeyError: 'epoch'")


def test_the_most_frequent_reason_is_first_and_the_first_text_stands_for_all() -> None:
    found = [_reason("once"), _reason("patient 17"), _reason("patient 18", 2), _reason("once", outcome="abstained")]
    assert count_alike(found) == [_reason("patient 17", 3), _reason("once"), _reason("once", outcome="abstained")]


def test_a_long_reason_is_one_line_of_bounded_length() -> None:
    assert shortened("a\n b", 10) == "a b"
    assert shortened("x" * 11, 10) == "x" * 8 + " …"


def test_an_absence_names_the_place_if_it_is_known_and_the_setting_to_raise() -> None:
    known = absence(30.0, "trainer.py:22 in validate", "validation_timeout")
    remedy = "if trainers are only slow, raise `validation_timeout`"
    assert known == f"no answer in 30 s; it was in trainer.py:22 in validate; {remedy}"
    assert absence(30.0, "", "validation_timeout") == f"no answer in 30 s; {remedy}"


def test_an_outcome_is_a_verb() -> None:
    assert [fared("failed", 2), fared("absent", 1), fared("rejected", 2)] == ["failed", "was absent", "were rejected"]
