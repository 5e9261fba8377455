"""The verbs against a running sandbox, as a user types them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import Result

from fedmq_schemas import keys
from support.servers.passing_faults import PassingFaults
from support.servers.served import PACKAGE, Served

Verb = Callable[..., Result]


def _json(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def trained(fedmq: Verb) -> dict[str, Any]:
    """A finished session of three rounds from the package's own seed."""
    document: dict[str, Any] = _json(
        fedmq("start", "--rounds", 3, "--seed", "seed-5d1e84adb228", "--set", "random_seed=5", "--follow", "--json")
    )
    return document


def test_a_followed_start_shows_rounds_and_ends_with_the_model_and_the_next_command(fedmq: Verb) -> None:
    result = fedmq("start", "--rounds", 2, "--follow")
    assert result.exit_code == 0, result.output
    assert "round 2 of 2: 3 of 3 accepted" in result.stdout
    assert "final model s" in result.stdout
    assert "next: fedmq model get s" in result.stdout


def test_a_session_file_from_the_template_starts_a_session(fedmq: Verb, tmp_path: Path) -> None:
    template = fedmq("session", "template")
    (tmp_path / "session.toml").write_text(template.stdout.replace("# rounds = 5", "rounds = 2"))
    session = _json(fedmq("start", "session.toml", "--set", "train.learning_rate=0.5", "--follow", "--json"))
    assert session["policy"]["rounds"] == 2
    assert session["policy"]["train"] == {"learning_rate": 0.5}


def test_what_ran_can_be_run_again_to_the_same_bytes(fedmq: Verb, trained: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "again.toml").write_text(fedmq("session", "show", trained["session"], "--toml").stdout)
    again = _json(fedmq("start", "again.toml", "--follow", "--json"))
    assert again["model"].rpartition("-")[2] == trained["model"].rpartition("-")[2]


def test_a_session_that_fails_is_exit_code_1_with_its_reason(fedmq: Verb) -> None:
    settings = ("--set", "clients_required=9", "--set", "wait=0.2")
    result = fedmq("start", *settings, "--follow")
    assert result.exit_code == 1
    assert "waiting for clients, 3 of 9" in result.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("start", "none.toml"), "fedmq session template > none.toml"),
        (("start", "--set", "round=3"), "did you mean 'rounds'?"),
        (("start", "--seed", "none"), "there is no model 'none'"),
        (("session", "show", "none"), "there is no session 'none'"),
        (("stop", "none"), "there is no session 'none'"),
        (("model", "get", "none"), "there is no model 'none'"),
        (("model", "get", "last", "--format", "onnx"), "unknown format 'onnx'"),
        (("model", "get", "seed-5d1e84adb228", "--format", "keras"), "with --package DIR"),
        (("models", "--session", "none"), "there is no session 'none'"),
        (("model", "get", "last", "--session", "none"), "there is no session 'none'"),
        (("model", "get", "a/b"), "there is no model 'a/b'"),
        (("model", "get", "seed-5d1e84adb228", "-o", "none/x"), "there is no folder none for x: make it first"),
        (("session", "show", "../models"), "there is no session '../models'"),
        (("start", "--id", "a b"), "'a b' is no session's id"),
        (("start", "--seed", ""), "there is no model ''"),
        (("status", "--url", "http://127.0.0.1:99999"), "write it as http://HOST:8090"),
        (("seed",), "name a model's file, or a package"),
        (("seed", "none.npz"), "there is no file none.npz"),
        (("status", "--url", "http://127.0.0.1:9"), "no answer from http://127.0.0.1:9"),
        (("status", "--url", "localhost"), "write it as http://HOST:8090"),
    ],
)
def test_a_wrong_word_is_one_complaint_and_exit_code_2(fedmq: Verb, words: tuple[str, ...], complaint: str) -> None:
    result = fedmq(*words)
    assert result.exit_code == 2, result.output
    assert complaint in result.stderr
    assert result.stderr.startswith("fedmq: ")


def test_https_where_the_server_speaks_http_is_said(fedmq: Verb, alliance: Served) -> None:
    result = fedmq("status", "--url", alliance.url.replace("http:", "https:"))
    assert result.exit_code == 2
    assert "speaks http and not https" in result.stderr


def test_a_session_can_be_stopped_and_stopped_again(fedmq: Verb) -> None:
    session = _json(fedmq("start", "--rounds", 100000, "--json"))["session"]
    assert "ends after its open round" in fedmq("stop", session, "--after-round").stdout
    assert fedmq("events", session, "--follow").exit_code == 0
    assert "had ended already: stopped" in fedmq("stop", session).stdout


def test_status_sessions_models_and_clients_tell_what_is_there(fedmq: Verb, trained: dict[str, Any]) -> None:
    assert "4 of 4 clients, 2 of 2 combiners" in fedmq("status").stdout
    status = _json(fedmq("status", "--json"))
    assert (status["clients"], status["open_sessions"]) == (4, [])
    assert trained["session"] in fedmq("sessions").stdout
    models = _json(fedmq("models", "--session", trained["session"], "--json"))
    assert [each["round"] for each in models] == [3, 2, 1]
    assert models[0]["test/mse"] < models[2]["test/mse"]
    assert trained["model"] in fedmq("models").stdout
    assert [each["client"] for each in _json(fedmq("clients", "--json"))] == [
        "client1",
        "client2",
        "client3",
        "evaluator",
    ]
    assert "it validates only" in fedmq("clients", "--why", trained["session"]).stdout


def test_a_session_is_shown_round_by_round(fedmq: Verb, trained: dict[str, Any]) -> None:
    result = fedmq("session", "show", "last")
    assert f"session {trained['session']}: finished" in result.stdout
    assert {"mse", "test/mse", "training/mse"} <= set(result.stdout.split())
    shown = _json(fedmq("session", "show", trained["session"], "--json"))
    assert [each["round"] for each in shown["metrics"]] == [0, 1, 2, 3]
    assert [each["accepted"] for each in shown["rounds"]] == [3, 3, 3]


def test_two_sessions_are_compared_by_policy_and_by_round(fedmq: Verb, trained: dict[str, Any]) -> None:
    seed = ("--seed", "seed-5d1e84adb228", "--set", "random_seed=5")
    other = _json(fedmq("start", "--rounds", 2, *seed, "--set", "train.learning_rate=0.3", "--follow", "--json"))
    compared = _json(fedmq("session", "compare", trained["session"], other["session"], "--json"))
    assert compared["policy"] == [
        {"key": "rounds", "one": 3, "other": 2},
        {"key": "train.learning_rate", "one": None, "other": 0.3},
    ]
    first, *_, last = compared["rounds"]
    assert first[f"mse {trained['session']}"] == first[f"mse {other['session']}"]
    assert last[f"mse {other['session']}"] is None
    assert "train.learning_rate" in fedmq("session", "compare", trained["session"], other["session"]).stdout


def test_events_are_lines_or_json_lines_oldest_first(fedmq: Verb, trained: dict[str, Any]) -> None:
    lines = fedmq("events", trained["session"], "--limit", 3).stdout.splitlines()
    assert lines[-1] == f"next: fedmq session show {trained['session']}"
    assert len(lines[:-2]) == 3
    assert "session.finished" in lines[2]
    followed = fedmq("events", trained["session"], "--follow").stdout.splitlines()
    assert followed[-1] == f"next: fedmq session show {trained['session']}"
    rows = [json.loads(line) for line in fedmq("events", trained["session"], "--follow", "--json").stdout.splitlines()]
    assert [row["name"] for row in rows].count("round.committed") == 3


def test_a_model_is_written_with_the_recorded_hash(fedmq: Verb, trained: dict[str, Any], tmp_path: Path) -> None:
    got = _json(fedmq("model", "get", "last", "--json"))
    data = (tmp_path / f"{trained['model']}.safetensors").read_bytes()
    assert got["model"] == trained["model"]
    assert hashlib.sha256(data).hexdigest() == got["ref"]["sha256"]


def test_the_best_model_is_the_one_with_the_best_test_metric(fedmq: Verb, trained: dict[str, Any]) -> None:
    best = _json(fedmq("model", "get", "best", "--metric", "test/mse", "--mode", "max", "-o", "x", "--json"))
    assert best["round"] == 1
    result = fedmq("model", "get", "best", "-o", "x")
    assert "(test/mse" in result.stdout and "min of its session" in result.stdout


def test_a_model_is_written_in_other_tools_forms(fedmq: Verb, trained: dict[str, Any], tmp_path: Path) -> None:
    assert fedmq("model", "get", "last", "-o", "m.safetensors").exit_code == 0
    assert fedmq("model", "get", "last", "--format", "npz", "-o", "m.npz").exit_code == 0
    weights = load_file(tmp_path / "m.safetensors")
    with np.load(tmp_path / "m.npz") as archive:
        assert {name: archive[name].tobytes() for name in archive.files} == {
            name: array.tobytes() for name, array in weights.items()
        }


def test_a_file_and_a_package_become_seeds(fedmq: Verb, tmp_path: Path) -> None:
    save_file({"coefficients": np.ones(7), "intercept": np.ones(1)}, tmp_path / "mine.safetensors")
    result = fedmq("seed", "mine.safetensors", "--name", "mine")
    assert "next: fedmq start --seed mine --follow" in result.stdout
    assert "mine" in fedmq("models").stdout
    np.savez(tmp_path / "mine.npz", coefficients=np.ones(7), intercept=np.ones(1))
    from_npz = _json(fedmq("seed", "mine.npz", "--json"))["model"]
    assert _json(fedmq("start", "--seed", from_npz, "--rounds", 1, "--follow", "--json"))["seed"] == from_npz
    assert _json(fedmq("seed", "--package", PACKAGE, "--json"))["model"] == "seed-5d1e84adb228"


def test_the_roles_of_a_file_that_states_none_are_given_beside_it(fedmq: Verb, tmp_path: Path) -> None:
    np.savez(tmp_path / "ids.npz", w=np.ones(2), ids=np.arange(9))
    assert "tensor 'ids' holds integers" in fedmq("seed", "ids.npz").stderr
    assert fedmq("seed", "ids.npz", "--role", "ids=constant").exit_code == 0
    assert "'ids' of dtype int64 can be" in fedmq("seed", "ids.npz", "--role", "ids=hero").stderr
    assert "give NAME=ROLE" in fedmq("seed", "ids.npz", "--role", "ids").stderr
    assert "states roles in its trainer's" in fedmq("seed", "--package", PACKAGE, "--role", "a=constant").stderr


def test_a_model_is_recomputed_to_the_same_bytes(fedmq: Verb, alliance: Served, trained: dict[str, Any]) -> None:
    result = fedmq("model", "verify", trained["model"])
    assert (result.exit_code, "recomputed: the same bytes" in result.stdout) == (0, True)
    here = fedmq("model", "verify", trained["model"], "--state-dir", alliance.box.options.state_dir)
    assert (here.exit_code, "recomputed: the same bytes" in here.stdout) == (0, True)
    assert fedmq("model", "verify", trained["seed"]).exit_code == 0


def test_where_updates_are_gone_verification_says_so_and_is_exit_code_3(fedmq: Verb) -> None:
    session = _json(fedmq("start", "--rounds", 3, "--set", "retention.keep_updates=0", "--follow", "--json"))
    first = _json(fedmq("models", "--session", session["session"], "--json"))[-1]["model"]
    result = fedmq("model", "verify", first)
    assert result.exit_code == 3
    assert "its updates are gone" in result.stdout


def test_a_model_that_was_let_go_says_so_whatever_is_asked_of_it(fedmq: Verb) -> None:
    settings = ("--set", "retention.keep_models=0", "--set", "select.mode=min", "--set", "select.metric=test/mse")
    session = _json(fedmq("start", "--rounds", 4, *settings, "--follow", "--json"))["session"]
    models = {each["round"]: each for each in _json(fedmq("models", "--session", session, "--json"))}
    best = _json(fedmq("model", "get", "best", "--session", session, "--json"))["round"]
    assert {number for number, each in models.items() if each["kept"]} == {best, 4}
    number = next(number for number in (1, 2, 3) if number != best)
    gone, child = models[number]["model"], models[number + 1]["model"]
    assert "let go" in fedmq("models", "--session", session).stdout
    for verb in (("model", "get", gone), ("start", "--seed", gone)):
        result = fedmq(*verb)
        assert result.exit_code != 0
        assert f"model '{gone}' was let go" in result.output and "retention.keep_models" in result.output
    for model, words in ((gone, "it was let go"), (child, "was let go")):
        result = fedmq("model", "verify", model)
        assert result.exit_code == 3
        assert words in result.stdout and "each client once" in result.stdout


def test_a_changed_update_is_found_out(fedmq: Verb, alliance: Served, trained: dict[str, Any]) -> None:
    ledger = alliance.box.blobs.get(keys.round_ledger_blob(trained["session"], 3))
    key = json.loads(ledger)["entries"][0]["blob"]["key"]
    data = alliance.box.blobs.get(key)
    alliance.box.blobs.put(key, data[:-1] + bytes([data[-1] ^ 1]))
    try:
        result = fedmq("model", "verify", trained["model"])
    finally:
        alliance.box.blobs.put(key, data)
    assert result.exit_code == 1
    assert "not what its reference says" in result.stdout


def test_a_session_file_that_is_no_text_is_said(fedmq: Verb, tmp_path: Path) -> None:
    (tmp_path / "session.toml").write_bytes(b"\xff\xfe")
    assert "fedmq: session.toml: 'utf-8' codec can't decode" in fedmq("start", "session.toml").stderr
    (tmp_path / "session.toml").write_text("rounds = x\n")
    result = fedmq("start", "session.toml")
    assert (result.exit_code, "at line 1, column" in result.stderr) == (2, True), result.stderr


def test_a_followed_start_outlives_passing_faults_of_the_server(fedmq: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = PassingFaults(monkeypatch)
    result = fedmq("start", "--rounds", 2, "--follow")
    assert result.exit_code == 0, result.output
    assert "final model s" in result.stdout
    assert max(faults.seen.values()) >= 3


def test_the_ending_of_out_decides_the_format(fedmq: Verb, trained: dict[str, Any], tmp_path: Path) -> None:
    assert fedmq("model", "get", "best", "--out", "m.npz").exit_code == 0
    with np.load(tmp_path / "m.npz") as archive:
        assert len(archive.files) > 0
    result = fedmq("model", "get", "best", "--out", "m.npz", "--format", "torch")
    assert (result.exit_code, "name it m.pt" in result.stderr) == (2, True), result.stderr


def test_a_model_goes_into_a_folder_under_its_own_name(fedmq: Verb, trained: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for form, suffix in (("safetensors", ".safetensors"), ("npz", ".npz")):
        got = _json(fedmq("model", "get", "last", "--format", form, "-o", "models", "--json"))
        assert got["path"] == f"models/{trained['model']}{suffix}"
        assert (tmp_path / got["path"]).is_file()
