"""What belongs to one client: it outlives the session at its site, a later session may take it up, and it never leaves."""

from __future__ import annotations

import json
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from typer.testing import CliRunner, Result

from fedmq.brokers.base import Outgoing
from fedmq.brokers.memory.connection import MemoryConnection
from fedmq.model_files import formats
from fedmq_cli.app import app
from fedmq_sandbox import Sandbox
from fedmq_sdk import Alliance, SessionHandle
from support.packages import write_package
from support.servers.served import Served, served
from support.waiting import until

SECRETS = (1234.56789, 9876.54321)
"""Values that only local tensors and `task.state` have."""

TRAINER = f"""
import numpy as np

class Trainer:
    def __init__(self, client):
        self.client = client

    def init(self):
        return {{"body": np.zeros(2), "head": np.zeros(3), "rest": np.full(2, 7.0)}}

    def train(self, weights, task):
        weights["body"] += 1
        weights["head"][0] += 1 + self.client.ordinal
        weights["head"][1] = {SECRETS[0]}
        task.state["steps"] = task.state.get("steps", np.zeros(2)) + [1, 0]
        task.state["steps"][1] = {SECRETS[1]}
        return weights, 1, {{}}

    def validate(self, weights, task):
        target = 4.0 * (1 + self.client.ordinal)
        steps = float(task.state["steps"][0]) if "steps" in task.state else 0.0
        return 1, {{"mse": (weights["head"][0] - target) ** 2, "steps": steps}}
"""
PARTS = {"local": ["head"], "frozen": ["rest"]}


@dataclass(frozen=True, slots=True)
class Site:
    """A running alliance with two clients, its state folder, and all that went over its broker."""

    served: Served
    folder: Path
    package: Path
    sent: list[bytes]

    @property
    def alliance(self) -> Alliance:
        return Alliance(self.served.url)

    def train(self, rounds: int = 2, **policy: Any) -> SessionHandle:
        session = self.alliance.start({"rounds": rounds, "random_seed": 1, "tensors": PARTS, **policy})
        session.wait(60)
        until(lambda: session.refresh()["announced"], "the end is announced")
        return session

    def ledger(self, session: SessionHandle, number: int) -> dict[str, dict[str, Any]]:
        model = next(row["model"] for row in session.metrics() if row["round"] == number)
        return {entry["client"]: entry for entry in self.alliance.ledger(model)["entries"]}

    def at_site(self, *words: object) -> Result:
        return fedmq(*words, "--state-dir", self.folder)


def fedmq(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def succeeds(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    sent: list[bytes] = []
    publish = MemoryConnection.publish

    def spy(self: MemoryConnection, message: Outgoing, on_confirm: Any = None) -> None:
        sent.append(message.body)
        publish(self, message, on_confirm)

    monkeypatch.setattr(MemoryConnection, "publish", spy)
    package = write_package(tmp_path / "package", TRAINER)
    with served(tmp_path / "state", package, clients=2) as running:
        yield Site(running, tmp_path / "state", package, sent)


def means(session: SessionHandle, metric: str) -> list[float]:
    return [row[metric] for row in session.metrics()]


def test_a_session_that_asks_for_it_goes_on_with_each_clients_own_head(site: Site) -> None:
    first = site.train()
    assert means(first, "steps") == [0.0, 1.0, 2.0]
    second = site.train(seed=first.model, personal="continue")
    assert means(second, "steps") == [2.0, 3.0, 4.0]
    # After n trainings the heads of the two clients are n and 2n, and their targets are 4 and 8.
    assert means(second, "mse") == [np.mean([(n - 4.0) ** 2, (2 * n - 8.0) ** 2]) for n in (2, 3, 4)]
    for number in (1, 2):
        entries = site.ledger(second, number)
        assert {name: entry["personal"] for name, entry in entries.items()} == {
            name: {"outcome": "continued", "session": first.id} for name in ("client1", "client2")
        }
    assert all("personal" not in entry for entry in site.ledger(first, 1).values())
    succeeds(fedmq("model", "verify", second.model, "--url", site.served.url))
    events = site.alliance.events(second.id, limit=None)
    accepted = [each["data"]["personal"]["outcome"] for each in events if each["name"] == "update.accepted"]
    assert accepted == ["continued"] * 4


def test_without_the_key_a_session_begins_as_the_seed(site: Site) -> None:
    first = site.train()
    assert means(site.train(seed=first.model), "steps") == [0.0, 1.0, 2.0]


def test_a_client_whose_package_changed_begins_anew_and_the_ledger_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = write_package(tmp_path / "package", TRAINER)
    policy = {"rounds": 1, "random_seed": 1, "tensors": PARTS, "personal": "continue"}
    with served(tmp_path / "state", package, clients=1) as running:
        Alliance(running.url).start(policy).wait(60)
    write_package(package, TRAINER + "# another version")
    with served(tmp_path / "state", package, clients=1) as running:
        second = Alliance(running.url).start(policy)
        second.wait(60)
        until(lambda: second.refresh()["announced"], "the end is announced")
        assert second.model is not None
        [entry] = Alliance(running.url).ledger(second.model)["entries"]
        events = Alliance(running.url).events(second.id, limit=None)
        [notes] = [each["data"]["notes"] for each in events if each["name"] == "update.accepted"]
    assert entry["personal"]["outcome"] == "fresh"
    reason = entry["personal"]["reason"]
    assert reason.endswith("it is of another package, or of another version of the package")
    assert notes == [f"its private state began anew: {reason}"]


def test_a_note_on_the_state_has_a_place_among_the_most_notes_of_an_update(tmp_path: Path) -> None:
    noting = TRAINER.replace(
        "        return weights, 1", "        [task.note(f'n{i}') for i in range(30)]\n        return weights, 1"
    )
    package = write_package(tmp_path / "package", noting)
    policy = {"rounds": 1, "retries": 0, "tensors": PARTS, "personal": "continue"}
    with Sandbox(package, clients=1, workers=0, policy=policy) as box:
        assert box.run()["state"] == "finished"
        [event] = box.records.find("events", {"name": "update.accepted"})
    assert len(event["data"]["notes"]) == 10
    assert event["data"]["notes"][-1] == "its private state began anew: nothing is kept of an earlier session"


def test_an_evaluator_trains_nothing_so_it_takes_up_no_state_and_notes_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    package = write_package(tmp_path / "package", TRAINER + "\n    test_set = True\n")
    policy = {"rounds": 1, "tensors": PARTS, "personal": "continue"}
    caplog.set_level("INFO", "fedmq.client")
    with Sandbox(package, clients=1, evaluator=True, workers=0, policy=policy) as box:
        assert box.run()["state"] == "finished"
    assert {record.__dict__.get("client") for record in caplog.records if record.message == "task noted"} == {"client1"}


# -- at the site ------------------------------------------------------------------------------------------------------


def test_a_site_exports_the_whole_model_of_its_client_and_its_state(site: Site, tmp_path: Path) -> None:
    session = site.train()
    out, state = tmp_path / "own.safetensors", tmp_path / "state.npz"
    text = succeeds(site.at_site("model", "get", "--client", "client2", "--out", out, "--state", state))
    assert f"local tensors head after round 2 of session {session.id}" in text
    found = formats.read(out)
    # The client held the last model, which it validated: its body is the mean of two trainings.
    assert {name: list(array) for name, array in found.weights.items()} == {
        "body": [2.0, 2.0],
        "head": [4.0, SECRETS[0], 0.0],
        "rest": [7.0, 7.0],
    }
    whose = {"client": "client2", "session": session.id, "round": 2, "model": session.model}
    assert found.meta["personal"] == whose
    with np.load(state) as arrays:
        assert list(arrays["steps"]) == [2.0, SECRETS[1]]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (out, state)] == [0o600, 0o600]


def test_a_site_exports_an_earlier_session_too_once_another_has_begun(site: Site, tmp_path: Path) -> None:
    first = site.train()
    site.train(rounds=1)
    out = tmp_path / "own.npz"
    words = ("--client", "client1", "--session", first.id, "--format", "npz", "--out", out, "--json")
    document = json.loads(succeeds(site.at_site("model", "get", *words)))
    assert (document["round"], document["model"]) == (2, first.model)
    assert list(formats.read(out).weights["head"]) == [2.0, SECRETS[0], 0.0]


def test_a_site_lists_and_deletes_what_its_clients_keep(site: Site) -> None:
    first = site.train()
    second = site.train()
    rows = json.loads(succeeds(site.at_site("personal", "list", "--json")))
    assert {(row["client"], row["session"]) for row in rows} == {
        (client, session) for client in ("client1", "client2") for session in (first.id, second.id)
    }
    assert first.id in succeeds(site.at_site("personal", "list"))
    succeeds(site.at_site("personal", "delete", "--client", "client1", "--session", first.id))
    rows = json.loads(succeeds(site.at_site("personal", "list", "--client", "client1", "--json")))
    assert [row["session"] for row in rows] == [second.id]
    refused = site.at_site("model", "get", "--client", "client1", "--session", first.id)
    assert refused.exit_code == 2
    assert f"client client1 keeps no state of session {first.id}" in refused.output


def test_the_table_of_what_clients_keep_fits_a_terminal(tmp_path: Path) -> None:
    names = {f"'encoder.layers.{number}.norm.weight': np.zeros(2, np.float32)" for number in range(9)}
    many = TRAINER.replace(
        "        return weights, 1", f"        task.state.update({{{', '.join(names)}}})\n        return weights, 1"
    )
    many = many.replace('"head":', '"classifier.of.this.client/head":').replace(
        '["head"]', '["classifier.of.this.client/head"]'
    )
    package = write_package(tmp_path / "package", many)
    policy = {"rounds": 1, "tensors": {**PARTS, "local": ["*head"]}}
    with Sandbox(package, clients=1, workers=0, state_dir=tmp_path / "state", policy=policy) as box:
        assert box.run()["state"] == "finished"
        session = box.session
    heading, row, *_ = succeeds(fedmq("personal", "list", "--state-dir", tmp_path / "state")).splitlines()
    assert heading.split() == ["client", "session", "round", "local", "state", "package", "saved"]
    assert row.startswith(f"client1  {session}") and "  classifier.of.…  steps +9  " in row
    assert max(len(heading), len(row)) <= 100


def test_all_of_a_stopped_client_can_be_deleted(tmp_path: Path) -> None:
    package = write_package(tmp_path / "package", TRAINER)
    with Sandbox(package, clients=1, workers=0, rounds=1, state_dir=tmp_path / "state", tensors=PARTS) as box:
        assert box.run()["state"] == "finished"
    where = ("--client", "client1", "--state-dir", tmp_path / "state")
    succeeds(fedmq("personal", "delete", *where))
    assert json.loads(succeeds(fedmq("personal", "list", "--json", *where))) == []
    assert not list((tmp_path / "state" / "clients").rglob("*state*"))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--client", "client9"), "has no client client9"),
        (("last", "--client", "client1", "--metric", "mse"), "--client goes with --session"),
        (("--state", "x.npz"), "--state belongs to --client NAME"),
    ],
)
def test_what_can_not_be_exported_is_refused_with_the_reason(site: Site, words: tuple[str, ...], reason: str) -> None:
    refused = site.at_site("model", "get", *words)
    assert (refused.exit_code, reason in refused.output) == (2, True)


def test_a_result_says_which_tensors_are_the_seeds_and_its_advice_works(tmp_path: Path) -> None:
    package = write_package(tmp_path / "package", TRAINER)
    words = ("--clients", 2, "--rounds", 1, "--workers", 0, "--state-dir", tmp_path / "run")
    text = succeeds(fedmq("sandbox", "--package", package, *words, "--set", 'tensors.local=["head"]'))
    [note] = [line for line in text.splitlines() if "local tensors" in line]
    assert note.strip().startswith(
        "local tensors head are the seed's: each client holds its own; at a site: fedmq model get"
    )
    command = shlex.split(note.partition("at a site: fedmq ")[2])
    succeeds(fedmq(*command, "--out", tmp_path))
    assert len(list(tmp_path.glob("client1-*.safetensors"))) == 1
    text = succeeds(fedmq("sandbox", "--package", package, *words[:-1], tmp_path / "other"))
    assert "local tensors" not in text


def test_downloads_and_sessions_say_which_tensors_are_the_seeds(site: Site, tmp_path: Path) -> None:
    session = site.train(rounds=1)
    note = "local tensors head are the seed's: each client holds its own; at a site: fedmq model get --client NAME"
    url = ("--url", site.served.url)
    assert note in succeeds(fedmq("model", "get", "--out", tmp_path / "m.safetensors", *url))
    assert note in succeeds(fedmq("session", "show", session.id, *url))
    other = site.train(rounds=1, tensors={})
    assert note not in succeeds(fedmq("model", "get", other.model, "--out", tmp_path / "m.safetensors", *url))


# -- nothing leaves ---------------------------------------------------------------------------------------------------


def test_local_tensors_and_state_are_in_no_message_blob_or_record(site: Site) -> None:
    first = site.train()
    site.train(seed=first.model, personal="continue")
    found: dict[bool, list[str]] = {True: [], False: []}
    for path in (path for path in site.folder.rglob("*") if path.is_file()):
        is_own = path.is_relative_to(site.folder / "clients")
        found[is_own].extend(str(path) for form in forms() if form in path.read_bytes())
    assert found[True], "the search finds the values where they belong"
    assert found[False] == []
    mse = np.array(64.0, ">f8").tobytes()  # of client2's head before its first training
    assert any(mse in body for body in site.sent), "the search finds a value that a message holds"
    assert not [body for body in site.sent for form in forms() if form in body]


def test_no_url_of_the_api_reaches_a_clients_folder(site: Site) -> None:
    site.train()
    files = site.folder.glob("clients/client1/*/*.000002.*")
    own = next(path for path in files if path.suffix in (".safetensors", ".state"))
    place = own.relative_to(site.folder).as_posix()
    with urllib3.PoolManager() as pool:
        for path in (place, f"../{place}", f"updates/../../{place}", f"models/../../{place}", f"/{own}"):
            for form in (path, path.replace("/", "%2F"), path.replace("..", "%2E%2E")):
                for route in ("blobs", "models"):
                    answer = pool.request("GET", f"{site.served.url}/{route}/{form}", retries=False)
                    assert answer.status >= 400, form


def forms() -> Iterator[bytes]:
    """Yields the secret values in the forms in which a file or a message would hold them."""
    for value in SECRETS:
        for dtype in ("<f8", "<f4", ">f8", ">f4"):
            yield np.array(value, dtype).tobytes()
        yield str(value).encode()


def test_further_rounds_of_a_folder_continue_with_what_clients_keep_if_they_are_asked_to(tmp_path: Path) -> None:
    package = write_package(tmp_path / "package", TRAINER)

    def steps(rounds: int, **policy: str) -> list[float]:
        options = {"tensors": PARTS, **policy}
        with Sandbox(package, clients=2, workers=0, rounds=rounds, policy=options, state_dir=tmp_path / "run") as box:
            assert box.run()["state"] == "finished"
            return [each.metrics["steps"] for each in box.rounds()]

    assert steps(2) == [1.0, 2.0]
    assert steps(4, personal="continue") == [1.0, 2.0, 3.0, 4.0]
    assert steps(6, personal="fresh") == [1.0, 2.0, 3.0, 4.0, 1.0, 2.0]
