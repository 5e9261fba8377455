"""The contract of the record port, on every adapter: the lease and its fence."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from contracts.stores import patiently
from fedmq.errors import Fenced
from fedmq.records.base import Lease, Records
from support.clock import Clock


def test_the_lease_is_held_by_one(records: Records) -> None:
    assert records.acquire("one", 10) == Lease("one", 1)
    assert records.acquire("two", 10) is None
    assert records.acquire("one", 10) == Lease("one", 1)


def test_an_expired_lease_goes_to_the_next_with_a_higher_epoch(records: Records, clock: Clock) -> None:
    first = records.acquire("one", 10)
    assert first is not None
    clock.now += 9.9
    assert records.acquire("two", 10) is None
    clock.now += 0.1
    assert records.acquire("two", 10) == Lease("two", 2)
    assert not records.renew(first, 10)
    assert records.acquire("one", 10) is None
    clock.now += 10
    assert records.acquire("one", 10) == Lease("one", 3)


def test_renewing_keeps_the_lease_even_after_it_expired_untaken(records: Records, clock: Clock) -> None:
    lease = records.acquire("one", 10)
    assert lease is not None
    for _ in range(3):
        clock.now += 8
        assert records.renew(lease, 10)
    clock.now += 60
    assert records.renew(lease, 10)
    assert records.acquire("two", 10) is None


def test_a_released_lease_is_free_at_once_and_its_epoch_never_comes_again(records: Records) -> None:
    lease = records.acquire("one", 10)
    assert lease is not None
    records.release(lease)
    assert not records.renew(lease, 10)
    assert records.acquire("one", 10) == Lease("one", 2)
    records.release(lease)
    assert records.acquire("two", 10) is None


@pytest.mark.parametrize("epoch", [1, 2], ids=["free", "expired"])
def test_one_of_many_acquires_the_lease(records: Records, clock: Clock, epoch: int) -> None:
    if epoch == 2:
        assert records.acquire("first", 10) == Lease("first", 1)
        clock.now += 10
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda n: patiently(lambda: records.acquire(f"holder{n}", 10)), range(16)))
    assert [lease.epoch for lease in leases if lease is not None] == [epoch]


def test_a_fenced_writer_changes_nothing(records: Records, clock: Clock) -> None:
    records.put("rounds", "s/1", {"by": "old"})
    old = records.acquire("old", 10)
    clock.now += 10
    new = records.acquire("new", 10)
    assert old is not None
    assert new is not None
    zombie, fence = {"by": "zombie"}, old.epoch
    writes: list[Callable[[], object]] = [
        lambda: records.insert("rounds", "s/2", zombie, fence=fence),
        lambda: records.put("rounds", "s/1", zombie, fence=fence),
        lambda: records.update("rounds", "s/1", zombie, fence=fence),
        lambda: records.put_many("rounds", [("s/1", zombie), ("s/3", zombie)], fence=fence),
        lambda: records.insert_many("rounds", [("s/3", zombie)], fence=fence),
    ]
    for write in writes:
        with pytest.raises(Fenced):
            write()
    assert list(records.find("rounds")) == [{"by": "old"}]
    assert records.insert("rounds", "s/2", {"by": "new"}, fence=new.epoch) is None
    records.put("rounds", "s/1", {"by": "new"}, fence=new.epoch)
    records.update("rounds", "s/1", {"again": True}, fence=new.epoch)
    assert records.get("rounds", "s/1") == {"by": "new", "again": True}


def test_without_a_lease_on_record_a_fence_lets_through(records: Records) -> None:
    records.put("rounds", "s/1", {"by": "first"}, fence=1)
    assert records.count("rounds") == 1
