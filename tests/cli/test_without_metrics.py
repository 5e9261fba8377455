"""Validations without metrics are counted with their reason, wherever a finished run is looked at."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.verbs import json_of
from dashboard.rendering import show
from fedmq.records.sqlite import SqliteRecords
from fedmq_cli.app import app
from fedmq_sdk import Alliance
from support.packages import write_package
from support.servers.served import served

TRAINER = """
import numpy as np

class Trainer:
    def __init__(self, client):
        self.client = client

    def init(self):
        return {"w": np.zeros(1)}

    def train(self, weights, task):
        return weights, 10, {"loss": 1.0}
"""
VALIDATE = """
    def validate(self, weights, task):
"""
RAISES = f"{TRAINER}{VALIDATE}        return 1 / 0\n"
SOME_RAISE = f"{TRAINER}{VALIDATE}        return 10, {{'mse': 1 / self.client.ordinal}}\n"
SOME_NONE = f"{TRAINER}{VALIDATE}        return (10, {{'mse': 1.0}}) if self.client.ordinal else None\n"
LINE = len(RAISES.splitlines())
RAISED = f"validate raised ZeroDivisionError: division by zero; it was in trainer.py:{LINE} in validate"


@dataclass(frozen=True)
class Case:
    """A trainer, and what each verb is to say of its run of two rounds with three clients."""

    trainer: str
    count: str
    reason: str
    clients: str = "client1 and 2 more"

    @property
    def line(self) -> str:
        return f"{self.count} validations have no metrics: {self.reason} ({self.clients})"


CASES = {
    "raises": Case(RAISES, "9 of 9", RAISED),
    "raises at one client": Case(SOME_RAISE, "3 of 9", RAISED, "client1"),
    "returns None": Case(f"{TRAINER}{VALIDATE}        return None\n", "9 of 9", "validate returned None"),
    "returns None at one client": Case(SOME_NONE, "3 of 9", "validate returned None", "client1"),
    "uses no examples": Case(f"{TRAINER}{VALIDATE}        return 0, {{}}\n", "9 of 9", "validate used no examples"),
    "has none": Case(TRAINER, "3 of 3", "the trainer has no validate(weights, task), so it scores no model: write it"),
}


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, and what its terminal showed."""

    case: Case
    folder: Path
    shown: str


def _fedmq(*words: object) -> Result:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module", params=CASES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, case = tmp_path_factory.mktemp("unscored"), CASES[request.param]
    package = write_package(folder / "package", case.trainer)
    words = ("--clients", 3, "--workers", 0, "--rounds", 2, "--state-dir", folder / "run")
    return Run(case, folder / "run", _fedmq("sandbox", "--package", package, *words).stdout)


def test_the_last_lines_of_the_run_have_it(run: Run) -> None:
    assert f"\n  {run.case.line}\n" in run.shown.partition("\nfinal model ")[2]


def test_the_reason_is_shown_once_while_rounds_run_with_the_number_of_further_clients(run: Run) -> None:
    during = run.shown.partition("\nfinal model ")[0]
    reason = run.case.reason.partition("; it was in ")[0]
    assert during.count(f"client1: {reason}") == 1
    assert during.index(f"client1: {reason}") < during.index("round 2 of 2")
    assert (f"2 more clients: {reason}" in during or "2 more validations failed alike" in during) == (
        "2 more" in run.case.clients
    )


def test_the_document_of_a_run_has_it(run: Run, tmp_path: Path) -> None:
    package = write_package(tmp_path / "package", run.case.trainer)
    words = ("--clients", 3, "--workers", 0, "--rounds", 2, "--state-dir", tmp_path / "run", "--json", "-")
    found = json.loads(_fedmq("sandbox", "--package", package, *words).stdout)["without_metrics"]
    [reason] = found["reasons"]
    assert f"{reason['count']} of {found['asked']}" == run.case.count


def test_a_session_is_shown_with_it(run: Run) -> None:
    assert f"\n{run.case.line}\n" in _fedmq("session", "show", "--state-dir", run.folder).stdout
    document = json_of(_fedmq("session", "show", "--state-dir", run.folder, "--json"))["without_metrics"]
    [reason] = document["reasons"]
    assert (f"{reason['count']} of {document['asked']}", reason["round"]) == (run.case.count, 2)


def test_each_client_states_its_own(run: Run) -> None:
    shown = _fedmq("clients", "--why", "--state-dir", run.folder).stdout
    own = f"round 2, attempt 1: accepted; validation of model 2 has no metrics: {run.case.reason}"
    assert shown.count(own) == (1 if run.case.clients == "client1" else 3)


def test_two_runs_are_compared_with_it(run: Run) -> None:
    words = ("session", "compare", run.folder, run.folder)
    assert _fedmq(*words).stdout.splitlines().count(f"{run.folder}: {run.case.line}") == 2
    standings = json_of(_fedmq(*words, "--json"))["sessions"]
    assert [len(each["without_metrics"]["reasons"]) for each in standings] == [1, 1]


@pytest.mark.parametrize("path", ["/", "/sessions"])
def test_the_dashboard_has_it(run: Run, path: str) -> None:
    with closing(SqliteRecords(run.folder / "records.db")) as records:
        assert run.case.line in show(records, path).text


def test_the_sdk_has_it(run: Run) -> None:
    [session] = Alliance(state_dir=run.folder).sessions()
    found = Alliance(state_dir=run.folder).session(session["session"]).without_metrics()
    assert f"{found['reasons'][0]['count']} of {found['asked']}" == run.case.count


def test_a_followed_start_ends_with_it(tmp_path: Path) -> None:
    case = CASES["raises"]
    with served(tmp_path / "alliance", write_package(tmp_path / "package", case.trainer)) as alliance:
        shown = _fedmq("start", "--rounds", 2, "--follow", "--url", alliance.url).stdout
    assert f"\n  {case.line}\n" in shown.partition("\nfinal model ")[2]


def test_a_session_that_fails_in_training_has_the_reason_too(tmp_path: Path) -> None:
    trainer = CASES["returns None"].trainer.replace("return weights, 10, {", "return 1 / 0, {")
    package, folder = write_package(tmp_path / "package", trainer), tmp_path / "run"
    words = ("--clients", 3, "--workers", 0, "--rounds", 2, "--state-dir", folder)
    failed = CliRunner().invoke(app, [str(word) for word in ("sandbox", "--package", package, *words)])
    assert failed.exit_code == 1 and failed.output.count("client1: validate returned None") == 1, failed.output
    line = "3 of 3 validations have no metrics: validate returned None (client1 and 2 more)"
    assert line in _fedmq("session", "show", "--state-dir", folder).stdout
    shown = _fedmq("clients", "--why", "--state-dir", folder).stdout
    assert shown.count("validation of model 0 has no metrics: validate returned None") == 3
