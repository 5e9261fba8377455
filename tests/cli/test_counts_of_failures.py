"""A client that fails in each round, or returns no number, is not hidden by the means of the others."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dashboard.rendering import show
from fedmq.records.sqlite import SqliteRecords
from fedmq_cli.app import app
from fedmq_sandbox import Sandbox
from fedmq_schemas import keys
from fedmq_schemas import records as tables
from support.packages import write_package

TRAINER = """
import numpy as np

class Trainer:
    def __init__(self, client):
        self.client = client.ordinal

    def init(self):
        return {"w": np.zeros(1)}

    def train(self, weights, task):
        value = 1.0 + self.client
        TRAIN
        return {"w": weights["w"] + 1}, 10, {"mse": value}

    def validate(self, weights, task):
        value = 1.0 + self.client
        VALIDATE
        return 10, {"mae": 1.5, "mse": value}
"""
FAULT = "if self.client == 0: raise ValueError('no data')"
NAN = "value = float('nan')"


def _fedmq(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.stdout


def _run(folder: Path, *words: object, train: str = "", validate: str = "", code: int = 0) -> str:
    """Runs a sandbox of two rounds with three clients in `folder/run`. Returns what its terminal showed."""
    package = write_package(folder / "package", TRAINER.replace("TRAIN", train).replace("VALIDATE", validate))
    clients = ("--clients", 3, "--workers", 0, "--state-dir", folder / "run")
    return _fedmq("sandbox", "--package", package, *clients, *words, code=code)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run for each fault, as FAULT/run; FAULT/shown.txt is what its terminal showed."""
    base = tmp_path_factory.mktemp("runs")
    for name, train, validate in (
        ("whole", "", ""),
        ("train", FAULT, ""),
        ("validate", "", FAULT),
        ("nan", NAN, NAN),
    ):
        shown = _run(base / name, "--rounds", 2, train=train, validate=validate)
        (base / name / "shown.txt").write_text(shown)
    return base


def _named(runs: Path, name: str) -> str:
    return f"{runs / name / 'run'}:last"


def test_compared_means_have_the_marks_that_each_session_shows(runs: Path) -> None:
    first, second = runs / "whole" / "run", runs / "validate" / "run"
    shown = _fedmq("session", "compare", f"{first}:last", f"{second}:last")
    assert shown.count("2.5 (2 of 3)") == 3
    assert _fedmq("session", "show", "--state-dir", second).count("2.5 (2 of 3)") == 3
    assert not re.search(r"2\.5(?! \(2 of 3\))", shown)
    assert "(3 of" not in shown and "2 (2 of 3)" not in shown


def test_compared_means_have_their_counts_in_json(runs: Path) -> None:
    first, second = (_named(runs, name) for name in ("whole", "validate"))
    compared = json.loads(_fedmq("session", "compare", first, second, "--json"))
    for row in compared["rounds"]:
        assert (row[f"mse {first}"], row[f"mse {first} n"], row[f"mse {first} of"]) == (2.0, 3, 3)
        assert (row[f"mse {second}"], row[f"mse {second} n"], row[f"mse {second} of"]) == (2.5, 2, 3)


def test_compared_sessions_state_how_they_ended(runs: Path, tmp_path: Path) -> None:
    _run(tmp_path, "--rounds", 2, train="raise ValueError('no data')", code=1)
    failed = f"{tmp_path / 'run'}:last"
    whole = _named(runs, "whole")
    shown = _fedmq("session", "compare", whole, failed)
    assert re.search(rf"^{whole}: session \w+ finished$", shown, re.MULTILINE)
    assert re.search(r": session \w+ failed: .*no data", shown)
    found = json.loads(_fedmq("session", "compare", whole, failed, "--json"))["sessions"]
    assert [each["state"] for each in found] == ["finished", "failed"]
    assert "no data" in found[1]["reason"]


def test_a_metric_that_one_of_the_compared_sessions_lacks_is_named(runs: Path) -> None:
    whole, nan = _named(runs, "whole"), _named(runs, "nan")
    shown = _fedmq("session", "compare", whole, nan)
    assert f"not compared, as only {whole} has them: mse, training/mse\n" in shown
    assert f"{nan} has no mean of mse: validate returned no finite number at client1 and 2 more\n" in shown
    assert f"{whole} has no mean" not in shown
    assert "has no mean of mse" in _fedmq("session", "compare", nan, _named(runs, "train"))
    found = json.loads(_fedmq("session", "compare", whole, nan, "--json"))["sessions"]
    assert [each["only_here"] for each in found] == [["mse", "training/mse"], []]


def test_a_compared_session_that_continues_another_says_so(tmp_path: Path) -> None:
    _run(tmp_path, "--rounds", 2)
    first = json.loads(_fedmq("sessions", "--json", "--state-dir", tmp_path / "run"))[0]
    _run(tmp_path, "--rounds", 3)
    second = json.loads(_fedmq("sessions", "--json", "--state-dir", tmp_path / "run"))[0]["session"]
    words = ("session", "compare", first["session"], second, "--state-dir", tmp_path / "run")
    assert (
        f"{second} continues session {first['session']} after its round 2; its rounds are counted from 1\n"
        in _fedmq(*words)
    )
    found = json.loads(_fedmq(*words, "--json"))["sessions"]
    continued = {"session": first["session"], "round": 2, "model": first["model"]}
    assert [each["continues"] for each in found] == [None, continued]


def test_the_final_block_counts_the_failed_clients_of_all_rounds_and_marks_their_means(runs: Path) -> None:
    shown = (runs / "train" / "shown.txt").read_text()
    assert "\n  training/mse 2.5 (2 of 3)\n" in shown
    assert "\n  updates of all rounds: 4 of 6 accepted, 2 failed\n" in shown
    assert "\n  mse 2 (clients' own data)\n" in shown
    assert re.findall(r"^round .* 2 of 3 accepted, 1 failed, .*, training: mse 2.5000 \(2 of 3\)$", shown, re.MULTILINE)
    assert "updates of all rounds" not in (runs / "whole" / "shown.txt").read_text()


def test_the_reason_of_an_update_that_failed_is_wherever_the_finished_run_is_looked_at(runs: Path) -> None:
    place = f"trainer.py:{TRAINER.splitlines().index('        TRAIN') + 1} in train"
    text = f"2 of 6 updates failed: train raised ValueError: no data; it was in {place} (client1, rounds 1 to 2)"
    folder = runs / "train" / "run"
    assert f"\n  {text}\n" in (runs / "train" / "shown.txt").read_text().partition("\nfinal model ")[2]
    assert f"\n{text}\n" in _fedmq("session", "show", "--state-dir", folder)
    [reason] = json.loads(_fedmq("session", "show", "--state-dir", folder, "--json"))["not_accepted"]["reasons"]
    assert (reason["outcome"], reason["count"], reason["place"]) == ("failed", 2, place)
    compared = _fedmq("session", "compare", _named(runs, "whole"), _named(runs, "train")).splitlines()
    assert f"{_named(runs, 'train')}: {text}" in compared
    for path in ("/", "/sessions"):
        with closing(SqliteRecords(folder / "records.db")) as records:
            assert text in show(records, path).text
    whole = _fedmq("session", "show", "--state-dir", runs / "whole" / "run")
    assert "updates failed" not in whole


def test_a_session_shows_how_many_clients_failed_in_each_round(runs: Path) -> None:
    shown = _fedmq("session", "show", "--state-dir", runs / "train" / "run")
    rows = [re.split(" {2,}", line.strip()) for line in shown.splitlines()[1:5]]
    assert rows[0] == ["round", "accepted", "failed", "seconds", "mae", "mse", "training/mse", "model"]
    for row in rows[2:]:
        assert (row[1:3], row[4:7]) == (["2 of 3", "1"], ["1.5", "2", "2.5 (2 of 3)"])


def test_the_time_of_a_stop_is_not_in_a_rounds_seconds(tmp_path: Path) -> None:
    _run(tmp_path, "--rounds", 2)
    records = SqliteRecords(tmp_path / "run" / "records.db")
    [first, _] = records.find(tables.ROUNDS, {}, order="round")
    records.update(tables.ROUNDS, keys.round_record(first["session"], 1), {"seconds": 3602.5, "resumed_after": 3600.0})
    records.close()
    shown = _fedmq("session", "show", "--state-dir", tmp_path / "run")
    assert re.search(r"^ +1 .* 2\.5\* ", shown, re.MULTILINE) and "\n* seconds since the round was resumed" in shown, (
        shown
    )
    with Sandbox(tmp_path / "package", clients=3, workers=0, rounds=2, state_dir=tmp_path / "run") as box:
        assert next(each.seconds for each in box.rounds()) == 2.5


def test_a_metric_without_a_mean_is_named_with_its_clients_and_its_step(runs: Path) -> None:
    lines = (runs / "nan" / "shown.txt").read_text().splitlines()
    shown = _fedmq("session", "show", "--state-dir", runs / "nan" / "run")
    for step, name in (("train", "training/mse"), ("validate", "mse")):
        note = f"metric 'mse' of {step} is nan and is in no mean"
        counted = [line for line in lines if line.endswith(note)]
        assert re.fullmatch(rf"client\d: {note}", counted[0])
        assert counted[1:] == [f"2 more clients: {note}"]
        assert re.search(
            rf"^no mean of {name}: {step} returned no finite number at client1 and 2 more$", shown, re.MULTILINE
        )
    document = json.loads(_fedmq("session", "show", "--json", "--state-dir", runs / "nan" / "run"))
    clients = ["client1", "client2", "client3"]
    assert document["without_mean"] == [
        {"metric": "mse", "step": "validate", "returned": "no finite number", "clients": clients},
        {"metric": "training/mse", "step": "train", "returned": "no finite number", "clients": clients},
    ]
    assert "no mean of" not in _fedmq("session", "show", "--state-dir", runs / "train" / "run")


def test_a_list_of_numbers_has_no_mean_and_is_named(tmp_path: Path) -> None:
    _run(tmp_path, validate="return 10, {'mse': 1.0, 'per_class': [1.0, 2.0], 'device': 'cpu'}")
    shown = _fedmq("session", "show", "--state-dir", tmp_path / "run")
    assert "no mean of per_class: validate returned a list at client1 and 2 more\n" in shown
    assert shown.count("no mean of") == 1
