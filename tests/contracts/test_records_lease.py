"""The contract of the record port, on every adapter: the lease and its fence."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from contracts.stores import patiently
from fedmq.errors import Fenced
from fedmq.lease import HeldLease
from fedmq.records.base import Lease, Records
from fedmq.records.documents import LEASE_KEY, LEASE_TABLE
from support.clock import Clock

DAY = 86_400.0


def stamp(records: Records) -> str:
    """Returns the stamp that a standby sees."""
    held = records.acquire("onlooker", 10)
    assert isinstance(held, HeldLease)
    return held.stamp


def test_the_lease_is_held_by_one(records: Records) -> None:
    assert records.acquire("one", 10) == Lease("one", 1)
    assert isinstance(records.acquire("two", 10), HeldLease)
    assert records.acquire("one", 10) == Lease("one", 1)


def test_a_lapsed_lease_goes_to_the_next_with_a_higher_epoch(records: Records) -> None:
    first = records.acquire("one", 10)
    assert isinstance(first, Lease)
    lapsed = stamp(records)
    assert records.acquire("two", 10, lapsed) == Lease("two", 2)
    assert not records.renew(first, 10)
    assert isinstance(records.acquire("one", 10, lapsed), HeldLease)
    assert records.acquire("one", 10, stamp(records)) == Lease("one", 3)


@pytest.mark.parametrize("step", [0.0, -1.0, DAY, -DAY], ids=["standing", "step back", "day ahead", "day behind"])
def test_a_renewal_changes_the_stamp_whatever_the_clock_shows(records: Records, clock: Clock, step: float) -> None:
    lease = records.acquire("one", 10)
    assert isinstance(lease, Lease)
    seen = stamp(records)
    clock.now += step
    assert records.renew(lease, 10)
    assert isinstance(records.acquire("two", 10, seen), HeldLease)
    seen = stamp(records)
    assert records.acquire("one", 10) == lease
    assert isinstance(records.acquire("two", 10, seen), HeldLease)


@pytest.mark.parametrize("off", [DAY, -DAY], ids=["day ahead", "day behind"])
def test_a_clock_that_is_off_neither_takes_a_lease_nor_keeps_one(records: Records, clock: Clock, off: float) -> None:
    records.acquire("one", 10)
    clock.now += off
    assert isinstance(records.acquire("two", 10), HeldLease)
    assert records.acquire("two", 10, stamp(records)) == Lease("two", 2)


def test_a_standby_learns_for_how_long_the_holder_may_leave_its_lease(records: Records) -> None:
    lease = records.acquire("one", 10)
    assert isinstance(lease, Lease)
    records.renew(lease, 60)
    held = records.acquire("two", 10)
    assert isinstance(held, HeldLease)
    assert held.seconds == 60


def test_renewing_keeps_the_lease_even_after_it_lapsed_untaken(records: Records, clock: Clock) -> None:
    lease = records.acquire("one", 10)
    assert isinstance(lease, Lease)
    clock.now += 60
    assert records.renew(lease, 10)
    assert isinstance(records.acquire("two", 10), HeldLease)


def test_a_released_lease_is_free_at_once_and_its_epoch_never_comes_again(records: Records) -> None:
    lease = records.acquire("one", 10)
    assert isinstance(lease, Lease)
    records.release(lease)
    assert not records.renew(lease, 10)
    assert records.acquire("one", 10) == Lease("one", 2)
    records.release(lease)
    assert isinstance(records.acquire("two", 10), HeldLease)


def test_the_lease_of_release_0_2_0_is_read_and_its_renewals_are_seen(records: Records, clock: Clock) -> None:
    old = {"holder": "old", "epoch": 4, "expires": clock.now + 10}
    records.put(LEASE_TABLE, LEASE_KEY, old)
    held = records.acquire("new", 10)
    assert isinstance(held, HeldLease)
    assert held.seconds == 10
    records.update(LEASE_TABLE, LEASE_KEY, {"expires": clock.now + 13})
    assert isinstance(records.acquire("new", 10, held.stamp), HeldLease)
    assert records.acquire("new", 10, stamp(records)) == Lease("new", 5)


def test_the_lease_holds_what_a_standby_of_release_0_2_0_looks_at(records: Records, clock: Clock) -> None:
    """It takes the lease once `expires` has passed, so a renewal must move that forward, and a release end it."""
    lease = records.acquire("new", 10)
    assert isinstance(lease, Lease)
    clock.now += 3
    records.renew(lease, 10)
    held = records.get(LEASE_TABLE, LEASE_KEY) or {}
    assert (held["holder"], held["epoch"], held["expires"]) == ("new", 1, clock.now + 10)
    records.release(lease)
    held = records.get(LEASE_TABLE, LEASE_KEY) or {}
    assert (held["holder"], held["epoch"], held["expires"]) == ("", 1, 0.0)


@pytest.mark.parametrize("epoch", [1, 2], ids=["free", "lapsed"])
def test_one_of_many_acquires_the_lease(records: Records, epoch: int) -> None:
    lapsed = ""
    if epoch == 2:
        assert records.acquire("first", 10) == Lease("first", 1)
        lapsed = stamp(records)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: patiently(lambda: records.acquire(f"holder{n}", 10, lapsed)), range(16)))
    assert [lease.epoch for lease in found if isinstance(lease, Lease)] == [epoch]


def test_a_fenced_writer_changes_nothing(records: Records) -> None:
    records.put("rounds", "s/1", {"by": "old"})
    old = records.acquire("old", 10)
    new = records.acquire("new", 10, stamp(records))
    assert isinstance(old, Lease)
    assert isinstance(new, Lease)
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
