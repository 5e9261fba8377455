"""What a role waits for is in its log at once, and a warning after 30 s."""

from __future__ import annotations

import logging

import pytest

from fedmq.process.wait_log import RoleWait, WaitLog, observe_all
from fedmq.runtime.effects import Fired
from fedmq.scheduler import VirtualScheduler

REDUCER = RoleWait("no reducer has answered", "see ALLIANCE_UID and the versions")
STANDBY = RoleWait("another reducer decides")


class Role:
    """A role whose wait is what a test says."""

    def __init__(self, wait: RoleWait | None) -> None:
        self.wait = wait
        self.scheduler = VirtualScheduler()
        self.log = WaitLog(self.scheduler, lambda: self.wait)
        self.step()

    def step(self, seconds: float = 0.0) -> None:
        self.scheduler.later(seconds, lambda: None)
        self.scheduler.run(limit=self.scheduler.now() + seconds)
        self.log(Fired("any"), (), None)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    found = [record for record in caplog.records if record.name == "fedmq.waits"]
    return [(each.levelname, each.getMessage(), vars(each)["reason"]) for each in found]


@pytest.fixture(autouse=True)
def _at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fedmq.waits")


def test_a_wait_is_logged_once_when_it_begins_and_warned_of_within_30_s(caplog: pytest.LogCaptureFixture) -> None:
    role = Role(REDUCER)
    for _ in range(29):
        role.step(1.0)
    assert lines(caplog) == [("INFO", "waits", "no reducer has answered")]
    role.step(1.0)
    text = "no reducer has answered for 30 s: see ALLIANCE_UID and the versions"
    assert lines(caplog)[1:] == [("WARNING", "waits", text)]
    assert role.log.report() == text
    role.step(60.0)
    assert len(lines(caplog)) == 2


def test_a_wait_that_ends_in_time_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    role = Role(REDUCER)
    assert role.log.report() == "no reducer has answered for 0 s"
    role.wait = None
    role.step(29.0)
    role.step(60.0)
    assert [level for level, _, _ in lines(caplog)] == ["INFO", "INFO"]
    assert lines(caplog)[-1][1] == "waits no longer"
    assert role.log.report() == ""


def test_a_wait_that_is_no_fault_is_never_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    role = Role(STANDBY)
    role.step(600.0)
    assert lines(caplog) == [("INFO", "waits", "another reducer decides")]
    assert role.log.report() == "another reducer decides for 600 s"


def test_all_observers_see_each_step() -> None:
    seen: list[str] = []
    observe_all(lambda *_: seen.append("a"), lambda *_: seen.append("b"))(Fired("x"), (), None)
    assert seen == ["a", "b"]
