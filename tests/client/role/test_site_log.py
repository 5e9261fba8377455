"""At info a site's log says what the client does, in the words of the events, with fields for a machine."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from client.role.alone import ALLIANCE, AloneClient
from fedmq.process.logs import JsonLine
from fedmq_client.app import waits_for
from fedmq_client.role.site_log import SiteLog
from fedmq_schemas import topology
from fedmq_schemas.messages import Attach, Cancel, DuplicateClient, PlanKey, UpdateOutcome, Wait
from support.packages import write_package

TRAINER = """
class Trainer:
    def __init__(self, client): ...
    def train(self, weights, task): return {body}
    def validate(self, weights, task): return {validate}
"""
PLAN = PlanKey(session="s", round=1)
INSTANCE = "0a0a0a0a"
SCORED = '4, {"loss": 0.5}'


@pytest.fixture(autouse=True)
def _own_modules() -> Iterator[None]:
    with patch.dict(sys.modules):
        yield


class Site:
    """A client with its log. `lines`: the fields of each line of the log, as a JSON log has them."""

    def __init__(
        self, folder: Path, caplog: pytest.LogCaptureFixture, body: str = "weights, 4, {}", validate: str = SCORED
    ) -> None:
        caplog.set_level(logging.INFO, "fedmq.client.site")
        self._caplog = caplog
        self.ended: list[str] = []
        self.log = SiteLog("c1", Attach(instance=INSTANCE), ALLIANCE.alliance, self._now, self.ended.append)
        package = write_package(folder, TRAINER.format(body=body, validate=validate))
        self.client = AloneClient(package, observe=self.log, on_fault=self.log.failed, detail="class")
        self.client.attach()

    def _now(self) -> float:
        return self.client.scheduler.now()

    @property
    def lines(self) -> list[dict[str, Any]]:
        records = [record for record in self._caplog.records if record.name == "fedmq.client.site"]
        return [json.loads(JsonLine({"name": "c1"}).format(record)) for record in records]

    def of(self, message: str) -> dict[str, Any]:
        [line] = [line for line in self.lines if line["message"] == message]
        return {name: value for name, value in line.items() if name not in ("at", "logger", "message", "name")}


def test_the_story_of_a_task_is_one_line_for_each_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(tmp_path, caplog)
    site.client.request()
    site.client.send("task", topology.task_key("c1"), UpdateOutcome(plan=PLAN, outcome="accepted"))
    assert [line["message"] for line in site.lines] == [
        "client.attaching",
        "client.attached",
        "task.received",
        "model.validated",
        "task.trained",
        "update.uploaded",
        "update.accepted",
    ]
    assert {line["level"] for line in site.lines} == {"info"}
    attached = site.of("client.attached")
    assert (attached["combiner"], attached["alliance"], attached["instance"]) == ("k1", "alone", INSTANCE)
    assert site.of("task.received") == {
        "level": "info",
        "session": "s",
        "round": 1,
        "kind": "train",
        "id": "s/1/train/1/0",
    }
    trained = site.of("task.trained")
    assert (trained["session"], trained["round"], trained["examples"]) == ("s", 1, 4)
    assert trained["seconds"] >= 0
    uploaded = site.of("update.uploaded")
    assert uploaded["bytes"] > 0 and uploaded["seconds"] >= 0


def test_a_rejected_and_a_late_update_are_logged_with_the_combiners_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path, caplog)
    for outcome, reason in (("rejected", "w holds NaN"), ("discarded", "late")):
        body = UpdateOutcome.model_validate({"plan": PLAN, "outcome": outcome, "reason": reason})
        site.client.send("task", topology.task_key("c1"), body)
    assert site.of("update.rejected") == {"level": "warning", "session": "s", "round": 1, "reason": "w holds NaN"}
    assert site.of("update.discarded") == {"level": "warning", "session": "s", "round": 1, "reason": "late"}


def test_an_exception_of_the_trainer_is_in_the_log_in_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(tmp_path, caplog, body="1 / 0")
    site.client.request()
    failed = site.of("update.failed")
    assert (failed["level"], failed["reason"]) == ("error", "train raised ZeroDivisionError: division by zero")
    assert "return 1 / 0" in failed["traceback"] and "trainer.py" in failed["traceback"]


def test_a_validation_that_abstains_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(tmp_path, caplog, validate="None")
    site.client.request()
    assert site.of("model.abstained") == {
        "level": "info",
        "session": "s",
        "round": 1,
        "reason": "validate returned None",
    }
    assert "model.validated" not in [line["message"] for line in site.lines]


def test_a_validation_an_abstention_and_the_end_of_a_session_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path, caplog, body="None")
    site.client.request()
    site.client.send("task", topology.task_key("c1"), Cancel(plan=PLAN, session_over=True))
    validated = site.of("model.validated")
    assert (validated["examples"], validated["metrics"]) == (4, {"loss": 0.5})
    assert site.of("update.abstained")["reason"] == "train returned None"
    assert site.of("session.over") == {"level": "info", "session": "s"}


@pytest.mark.parametrize("version", [1, 2])
def test_an_answer_of_another_version_is_what_the_client_waits_for(
    version: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path, caplog)
    reason = "the client speaks versions 1 to 1, this alliance 2"
    site.client.send("assignment", topology.assignment_key("c1"), Wait(seconds=5.0, reason=reason), version)
    assert site.log.waits == reason
    found = waits_for(site.log.waits)
    assert found is not None and found.reason == reason


def test_before_any_answer_the_client_waits_for_a_reducer_and_after_a_grant_for_nothing() -> None:
    found = waits_for(None)
    assert found is not None and found.reason == "no reducer has answered"
    assert found.remedy == "see ALLIANCE_UID and the versions"
    assert waits_for("") is None


def test_of_two_processes_with_one_name_one_goes_on_and_the_other_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path, caplog)
    site.client.send("task", topology.task_key("c1"), DuplicateClient(continues=INSTANCE, other="0b0b0b0b"))
    assert site.ended == []
    assert site.of("client.duplicate")["level"] == "warning"
    caplog.clear()
    site.client.send("task", topology.task_key("c1"), DuplicateClient(continues="0b0b0b0b", other=INSTANCE))
    [reason] = site.ended
    assert "stop it, or give this one another FEDN_CLIENT_NAME and account" in reason
    assert site.of("client.duplicate")["level"] == "error"
