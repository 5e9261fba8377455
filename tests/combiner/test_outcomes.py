"""What a combiner publishes to a client about its update."""

from __future__ import annotations

from combiner.protocol import key
from fedmq_combiner.context import CombinerContext
from fedmq_schemas.limits import LONGEST_REASON
from fedmq_schemas.messages import UpdateOutcome
from support.cores import bodies


def test_a_reason_is_cut_to_what_the_message_can_hold() -> None:
    """A longer one does not fit the schema of the message, and building the message would raise an error."""
    context = CombinerContext("k1", hold_at_most=5)
    context.instances.note("c1", "a")
    context.report_outcome("c1", key(), "rejected", "x" * (LONGEST_REASON + 1))
    context.report_outcome("c1", key(), "rejected", "a\0b\ud800c")
    long, odd = bodies(context.take_effects(), UpdateOutcome)
    assert long.reason == "x" * LONGEST_REASON
    assert odd.reason == "a\N{SYMBOL FOR NULL}b?c"
