"""Which clients read JSON is recorded with the client and stated in its plans, so it outlives a restart."""

from __future__ import annotations

from fedmq.runtime.effects import Now, ReadsJson, Received
from fedmq_combiner.core import CombinerCore
from fedmq_reducer.members.membership import Membership
from fedmq_schemas.messages import Attach, BlobRef, Envelope, Plan, PlanKey
from fedmq_schemas.records import ClientRecord
from fedmq_schemas.topology import Topology
from reducer.membership import clients_of
from support.cores import received

NOW = Now(0.0, 1_000.0)


def attach(members: Membership, client: str, is_json: bool) -> ClientRecord:
    envelope = Envelope(kind="attach", id="m1", alliance="a", sender=client, sent_at=0.0)
    effects = members.attach(Received(Attach(), envelope, 1, is_json), Attach(), 1, NOW)
    return clients_of(effects)[client]


def members_with_a_combiner() -> Membership:
    members = Membership(Topology("a"), presence=10.0)
    members.note_combiner("k1", 1, NOW)
    return members


def test_the_encoding_of_attach_is_recorded_with_the_client_and_read_again() -> None:
    members = members_with_a_combiner()
    records = [attach(members, "c1", is_json=True), attach(members, "c2", is_json=False)]
    assert [record.json_reader for record in records] == [True, False]
    assert "json_reader" not in records[1].document()

    successor = Membership(Topology("a"), presence=10.0)
    successor.restore([ClientRecord.model_validate(record.document()) for record in records], [], 0.0)
    assert successor.json_readers(["c1", "c2", "c3"]) == ("c1",)


def test_a_client_that_attaches_in_msgpack_again_no_longer_reads_json() -> None:
    members = members_with_a_combiner()
    attach(members, "c1", is_json=True)
    assert not attach(members, "c1", is_json=False).json_reader
    assert members.json_readers(["c1"]) == ()


def test_a_plan_tells_a_combiner_that_has_started_again_who_reads_json() -> None:
    combiner = CombinerCore("k1")
    model = BlobRef(key="models/m", size=1, sha256="f" * 64)
    plan = Plan(
        plan=PlanKey(session="s", round=1),
        epoch=1,
        reply_to="reducer",
        clients=("c1", "c2"),
        model=model,
        timeout=60.0,
        rounds=1,
        random_seed=1,
        json_readers=("c1",),
    )
    assert ReadsJson(("c1",)) in combiner.handle(received(plan, "reducer"), NOW)
