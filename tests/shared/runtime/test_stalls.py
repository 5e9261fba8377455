"""What is retried or not answered for five seconds is a stall, with its cause and since when."""

from __future__ import annotations

from fedmq.errors import Transient
from fedmq.runtime.effects import Perform
from fedmq.runtime.stalls import Stalls, describe
from fedmq.scheduler import VirtualScheduler
from fedmq.value import value
from fedmq_schemas.messages import Stall
from shared.runtime.bench import Bench

BEGAN = VirtualScheduler.EPOCH


@value
class Save(Perform):
    """Something that a store keeps."""


class Store:
    """Refuses until `free_at`."""

    def __init__(self, free_at: float) -> None:
        self.free_at = free_at
        self.bench = Bench({Save: self.save}, offload=False)

    def save(self, effect: Save) -> None:
        if self.bench.scheduler.now() < self.free_at:
            raise Transient("the S3 server at s3:9000 answered InternalError for updates/a", store="blob_store")


def test_an_effect_that_is_retried_is_a_stall_after_five_seconds_and_until_it_is_performed() -> None:
    store = Store(free_at=20.0)
    scheduler, stalls = store.bench.scheduler, store.bench.stalls
    store.bench.start([Save()])
    scheduler.run(limit=4.9)
    assert stalls.current() == []
    scheduler.run(lambda: bool(stalls.current()))
    reason = "the S3 server at s3:9000 answered InternalError for updates/a"
    assert stalls.current() == [Stall(store="blob_store", reason=reason, effect="Save", since=BEGAN)]
    assert scheduler.now() < 10.0
    assert stalls.retries == {("Save", "blob_store"): 6}
    scheduler.run()
    assert store.bench.runner.is_idle
    assert stalls.current() == []


def test_the_oldest_stall_stands_for_its_store() -> None:
    scheduler = VirtualScheduler()
    stalls = Stalls(scheduler.wall)
    stalls.note("a", "records", "first")
    scheduler.later(1.0, lambda: stalls.note("b", "records", "second"))
    scheduler.later(2.0, lambda: stalls.note("c", "broker", "third"))
    scheduler.later(9.0, lambda: None)
    scheduler.run()
    assert [(stall.store, stall.reason) for stall in stalls.current()] == [("broker", "third"), ("records", "first")]
    stalls.end("a")
    assert stalls.of("records") == Stall(store="records", reason="second", since=BEGAN + 1.0)
    stalls.end("b")
    assert stalls.of("records") is None


def test_a_later_note_replaces_the_reason_and_keeps_the_time() -> None:
    scheduler = VirtualScheduler()
    stalls = Stalls(scheduler.wall)
    stalls.note("a", "records", "no answer")
    scheduler.later(6.0, lambda: stalls.note("a", "records", "refused"))
    scheduler.run()
    assert [describe(stall) for stall in stalls.current()] == ["refused, since 00:00:00 UTC"]
