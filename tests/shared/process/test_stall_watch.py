"""The beginning and the end of a stall are published, and the combiner reports them at once."""

from __future__ import annotations

import pytest

from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.errors import ConfigError, NotFound, Transient
from fedmq.process.stall_watch import StallWatch
from fedmq.process.store_check import StoreCheck
from fedmq.runtime.effects import PublishEvent
from fedmq.runtime.stalls import Stalls
from fedmq.scheduler import VirtualScheduler


class Watched:
    """A watch over one connection, whose broker can be blocked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scheduler = VirtualScheduler()
        self.stalls = Stalls(self.scheduler.wall)
        self.blocked = ""
        self.silent = 0.0
        self.unserved = ""
        self.is_connected = True
        self.events: list[PublishEvent] = []
        self.changes = 0
        connection = MemoryBroker(self.scheduler).connect("combiner.c1")
        monkeypatch.setattr(type(connection), "blocked", property(lambda _: self.blocked))
        monkeypatch.setattr(type(connection), "silent", property(lambda _: self.silent))
        monkeypatch.setattr(type(connection), "unserved", property(lambda _: self.unserved))
        monkeypatch.setattr(type(connection), "connected", property(lambda _: self.is_connected and not self.silent))
        watch = StallWatch(
            self.scheduler,
            self.stalls,
            [connection],
            "combiner c1",
            combiner="c1",
            report=self.events.append,
            on_change=self._changed,
        )
        self.scheduler.post(watch.look)

    def _changed(self) -> None:
        self.changes += 1

    def run(self, seconds: float) -> None:
        self.scheduler.run(limit=self.scheduler.now() + seconds)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_a_blocked_broker_is_a_stall_whose_beginning_and_end_are_published_once(watched: Watched) -> None:
    watched.run(3.5)
    watched.blocked = "low on disk"
    watched.run(4.9)
    assert watched.events == []
    watched.run(10.0)
    since = VirtualScheduler.EPOCH + 4.0
    about = {
        "process": "combiner c1",
        "store": "broker",
        "reason": "the broker accepts no messages (low on disk)",
    }
    began = PublishEvent("stall.began", combiner="c1", data=about | {"effect": "", "since": since})
    assert (watched.events, watched.changes) == ([began], 1)
    watched.blocked = ""
    watched.run(1.5)
    assert watched.events[1:] == [PublishEvent("stall.ended", combiner="c1", data=about | {"seconds": 14.0})]
    assert watched.changes == 2


def test_a_stall_that_ends_within_five_seconds_is_not_published(watched: Watched) -> None:
    watched.blocked = "low on memory"
    watched.run(4.0)
    watched.blocked = ""
    watched.run(20.0)
    assert (watched.events, watched.changes) == ([], 0)


def test_a_queue_that_the_broker_does_not_serve_is_a_stall_with_its_name_also_while_the_link_is_lost(
    watched: Watched,
) -> None:
    watched.unserved = "a.combiner.c1.v1"
    watched.run(4.0)
    watched.is_connected = False
    watched.run(1.0)
    watched.is_connected = True
    watched.run(4.0)
    (began,) = watched.events
    assert began.data["reason"] == "the broker does not serve the queue a.combiner.c1.v1"
    watched.unserved = ""
    watched.run(1.5)
    assert [event.name for event in watched.events] == ["stall.began", "stall.ended"]


def test_a_broker_that_has_been_silent_for_long_is_a_stall_at_once_since_it_fell_silent(watched: Watched) -> None:
    watched.run(9.5)
    watched.silent = 7.0
    watched.run(1.0)
    assert [stall.reason for stall in watched.stalls.current()] == ["the broker does not answer"]
    assert watched.events == [], "an event without a connection would be lost"
    watched.silent = 0.0
    watched.run(1.0)
    [began, ended] = watched.events
    assert (ended.name, ended.data["seconds"]) == ("stall.ended", 8.0)
    assert (began.name, began.data["reason"]) == ("stall.began", "the broker does not answer")
    assert began.data["since"] == VirtualScheduler.EPOCH + 3.0


@pytest.mark.parametrize("answer", [NotFound("there is no blob"), ConfigError("AccessDenied for models")])
def test_a_check_notes_a_failing_store_until_it_answers(answer: Exception) -> None:
    scheduler = VirtualScheduler()
    stalls = Stalls(scheduler.wall)
    answers = [Transient("MongoDB refused with code 1"), answer]

    def request() -> None:
        raise answers.pop(0)

    check = StoreCheck("records", "MongoDB at m", request, stalls)
    check.check()
    scheduler.later(6.0, lambda: None)
    scheduler.run()
    assert [stall.reason for stall in stalls.current()] == ["MongoDB refused with code 1"]
    check.check()
    assert stalls.current() == []


def test_a_store_that_does_not_answer_is_a_stall_while_the_request_lasts() -> None:
    scheduler = VirtualScheduler()
    stalls = Stalls(scheduler.wall)
    seen: list[str] = []

    def request() -> None:
        scheduler.later(6.0, lambda: None)
        scheduler.run()
        seen.extend(stall.reason for stall in stalls.current())

    StoreCheck("records", "MongoDB at m", request, stalls).check()
    assert seen == ["MongoDB at m does not answer"]
    assert stalls.current() == []
