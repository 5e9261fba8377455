"""A combiner permits the upload of an update: of the client that has the task, of at most the size that the model allows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from combiner.protocol import (
    MOST_BYTES,
    REDUCER,
    Combiner,
    decline,
    discarded,
    key,
    outcomes,
    plan,
    update,
    void,
    welcome,
)
from fedmq.runtime.effects import Ack, Effect, Publish
from fedmq_combiner.operations import Close, Fold, Open
from fedmq_combiner.plans import MOST_CONTENTS
from fedmq_schemas.keys import update_blob, upload_blob
from fedmq_schemas.messages import BlobRef, ClientHello, PlanKey, TaskMessage, Ticket, UpdateOutcome, UploadRequest
from support.cores import all_of, bodies, events, one


def request(letter: str = "a", which: PlanKey | None = None, size: int = 1) -> UploadRequest:
    return UploadRequest(plan=which or key(), size=size, sha256=letter * 64)


def granted(effects: Sequence[Effect]) -> BlobRef:
    [ticket] = bodies(effects, Ticket)
    assert ticket.reason == ""
    return ticket.blob


def refusal(effects: Sequence[Effect]) -> str:
    [ticket] = bodies(effects, Ticket)
    return ticket.reason


def test_a_client_with_the_task_gets_a_ticket_for_a_key_that_holds_the_hash(combiner: Combiner) -> None:
    combiner.open(plan())
    effects = combiner.receive(request(size=9), "c1")
    assert granted(effects) == BlobRef(key=update_blob("s", 1, "c1", "a" * 64), size=9, sha256="a" * 64)
    published = one(effects, Publish)
    assert (published.exchange, published.routing_key, published.expiration) == ("task", "task.c1", 300.0)
    assert effects[-1] == Ack((combiner.tag,)), "acknowledged once the ticket is confirmed"


def test_the_same_request_gets_the_same_key_again_from_any_process_and_in_any_attempt(combiner: Combiner) -> None:
    combiner.open(plan())
    blobs = [granted(combiner.receive(request(), "c1")) for _ in range(2)]
    other = Combiner(name="k2")
    other.register()
    other.open(plan(key(attempt=2)))
    assert [*blobs, granted(other.receive(request(which=key(attempt=2)), "c1"))] == [blobs[0]] * 3


def test_an_update_that_was_uploaded_with_a_ticket_is_folded(combiner: Combiner) -> None:
    combiner.open(plan())
    blob = granted(combiner.receive(request("b"), "c1"))
    assert one(combiner.receive(update("c1", "b"), "c1"), Fold).blob == blob


def test_over_a_store_that_does_not_bind_uploads_the_ticket_is_for_a_key_that_no_ledger_names() -> None:
    combiner = Combiner(binds_uploads=False)
    combiner.register()
    combiner.open(plan(None, "c1"))
    blob = granted(combiner.receive(request(), "c1"))
    assert blob.key == upload_blob("s", 1, "c1", "a" * 64) != update_blob("s", 1, "c1", "a" * 64)
    fold = one(combiner.receive(update("c1").model_copy(update={"blob": blob}), "c1"), Fold)
    close = one(combiner.folded(fold), Close)
    [entry] = close.ledger.entries
    assert entry.blob is not None and entry.blob.key == update_blob("s", 1, "c1", "a" * 64)


@pytest.mark.parametrize(("size", "is_granted"), [(MOST_BYTES, True), (MOST_BYTES + 1, False), (2**53 - 1, False)])
def test_an_update_larger_than_the_model_allows_gets_no_ticket_and_is_rejected(
    combiner: Combiner, size: int, is_granted: bool
) -> None:
    """A client stored 300 MB with the URL of an update of 164 bytes."""
    combiner.open(plan())
    effects = combiner.receive(request(size=size), "c1")
    assert (refusal(effects) == "") == is_granted
    assert outcomes(effects) == ([] if is_granted else [("rejected", "c1")])
    if not is_granted:
        reason = f"its blob of {size} bytes is larger than an update of this model can be"
        assert refusal(effects) == reason
        assert [event.data["reason"] for event in events(effects, "update.rejected")] == [reason]
        assert combiner.unsettled == [request(size=size)], "its outcome is held until it is durable"


def test_an_update_that_names_a_larger_blob_is_rejected_before_it_is_read(combiner: Combiner) -> None:
    combiner.open(plan())
    named = update("c1")
    blob = named.blob.model_copy(update={"size": MOST_BYTES + 1})
    effects = combiner.receive(named.model_copy(update={"blob": blob}), "c1")
    assert outcomes(effects) == [("rejected", "c1")] and not all_of(effects, Fold)


def test_a_smaller_update_still_counts_after_one_that_was_too_large(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.receive(request(size=MOST_BYTES + 1), "c1")
    granted(combiner.receive(request(), "c1"))
    assert outcomes(combiner.accept("c1")) == [("accepted", "c1")]


def refused(combiner: Combiner, message: UploadRequest, client: str) -> str:
    """Returns why there is no ticket, and checks that others see it too."""
    effects = combiner.receive(message, client)
    reason = refusal(effects)
    assert discarded(effects) == [(client, reason)]
    assert Ack((combiner.tag,)) in effects
    return reason


def test_a_client_without_the_task_gets_no_ticket(combiner: Combiner) -> None:
    combiner.open(plan())
    assert refused(combiner, request(), "c3") == "the client has no task in this plan"
    for other in (key(attempt=2), key(2), key(session="other")):
        assert refused(combiner, request(which=other), "c1") == "superseded: no such plan is open here"


def test_there_is_no_ticket_for_a_validation(combiner: Combiner) -> None:
    combiner.open(plan(key(action="validate")))
    assert "misplaced" in refused(combiner, request(which=key(action="validate")), "c1")


def test_there_is_no_ticket_after_the_plan_is_void_closed_or_over(combiner: Combiner) -> None:
    combiner.open(plan())
    close = one(combiner.fire(f"deadline:{key()}"), Close)
    assert refused(combiner, request(), "c1") == "late: the plan is closed"
    combiner.closed(close)
    assert refused(combiner, request(), "c1") == "late: the plan is closed"
    combiner.open(plan(key(2)))
    combiner.receive(void(key(2)), REDUCER)
    assert refused(combiner, request(which=key(2)), "c1") == "superseded: the plan is void"
    combiner.receive(void(session="s"), REDUCER)
    assert refused(combiner, request(which=key(2)), "c1") == "superseded: no such plan is open here"


def test_there_is_no_ticket_for_a_task_whose_update_was_accepted(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.accept("c1", "a")
    assert refused(combiner, request("b"), "c1") == "another update of this task was accepted before"
    assert refused(combiner, request("a"), "c1") == "a duplicate: already accepted"


def test_a_client_that_has_declined_may_still_upload_until_the_plan_is_closed(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.receive(decline("failed"), "c1")
    granted(combiner.receive(request(), "c1"))


def test_a_refusal_is_reported_to_a_client_that_states_its_instance(combiner: Combiner) -> None:
    combiner.receive(ClientHello(instance="i", tickets=True), "c1")
    effects = combiner.receive(request(), "c1")
    assert [each.outcome for each in bodies(effects, UpdateOutcome)] == ["discarded"]


def test_a_request_before_the_plan_is_open_is_only_acknowledged_as_the_task_is_sent_then(combiner: Combiner) -> None:
    opening = one(combiner.receive(plan(), REDUCER), Open)
    assert combiner.receive(request(), "c1")[-1:] == [Ack((combiner.tag,))]
    assert len(bodies(combiner.opened(opening), TaskMessage)) == 2
    granted(combiner.receive(request(), "c1"))


def test_a_combiner_that_starts_over_answers_no_request_before_its_plans_have_arrived(combiner: Combiner) -> None:
    combiner.open(plan())
    combiner.reconnect()
    effects = combiner.receive(request(), "c1")
    assert bodies(effects, Ticket) == [] and Ack((combiner.tag,)) in effects
    combiner.receive(welcome(), REDUCER)
    assert refused(combiner, request(), "c1") == "superseded: no such plan is open here"


# -- clients of release 0.2 ---------------------------------------------------------------------------------------------


def test_only_a_client_whose_hello_does_not_state_tickets_has_none(combiner: Combiner) -> None:
    core = combiner.decisions
    assert core.has_tickets("c1"), "it has not sent a hello yet, as after a restart of the combiner"
    combiner.receive(ClientHello(), "c1")
    assert not core.has_tickets("c1") and core.has_tickets("c2")
    combiner.reconnect()
    assert not core.has_tickets("c1")
    combiner.receive(ClientHello(tickets=True), "c1")
    assert core.has_tickets("c1")


@pytest.mark.parametrize(
    ("blob", "is_taken"),
    [
        ("updates/s/000001/c1/upload-00000001abcdef", True),
        ("updates/s/000001/c1-00000001abcdef", True),
        ("updates/s/000001/c1-2-00000001abcdef", False),
        ("updates/s/000001/c1-2/upload-1", False),
        ("updates/s/000001/c2/upload-1", False),
        ("updates/s/000002/c1/upload-1", False),
        ("models/m0", False),
    ],
)
def test_a_client_names_only_its_own_uploads_in_the_form_of_this_release_or_of_the_one_before(
    combiner: Combiner, blob: str, is_taken: bool
) -> None:
    """The prefix of client `c1` was also that of a client `c1-2`."""
    combiner.open(plan())
    named = update("c1")
    named = named.model_copy(update={"blob": named.blob.model_copy(update={"key": blob})})
    effects = combiner.receive(named, "c1")
    assert len(all_of(effects, Fold)) == is_taken
    assert outcomes(effects) == ([] if is_taken else [("rejected", "c1")])


def test_a_client_gets_tickets_for_few_contents_of_one_task_and_again_for_each_of_them(combiner: Combiner) -> None:
    """A client had a thousand updates stored for one task."""
    combiner.open(plan())
    letters = "0123456789abcdef"[: MOST_CONTENTS + 1]
    for letter in letters[:-1]:
        granted(combiner.receive(request(letter), "c1"))
    effects = combiner.receive(request(letters[-1]), "c1")
    assert refusal(effects) == "tickets for 8 other updates of this task were sent: no further one is"
    assert [event.data["reason"] for event in events(effects, "update.discarded")] == [refusal(effects)]
    assert effects[-1] == Ack((combiner.tag,))
    granted(combiner.receive(request(letters[0]), "c1"))
    granted(combiner.receive(request(letters[-1]), "c2"))
    assert outcomes(combiner.accept("c1")) == [("accepted", "c1")], "its own task continues"
