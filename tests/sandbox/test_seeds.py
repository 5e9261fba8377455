"""What a sandbox starts from, and how it goes on with a folder that has ended."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from fedmq.model_files import formats
from fedmq_cli.package_trial import first_model
from fedmq_cli.progress import SessionProgress
from fedmq_sandbox import ConfigError, NotFound, Sandbox
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Event
from fedmq_sdk import Alliance
from support.packages import write_package
from support.servers.served import served
from support.tiers import require_framework

COUNTING = """
import numpy as np

class Trainer:
    def __init__(self, client): ...
    {init}
    def train(self, weights, task):
        return {{"w": weights["w"] + task.config.get("by", 1.0)}}, 10, {{}}

    def validate(self, weights, task):
        return 10, {{"score": -abs(float(weights["w"][0]) - 2)}}
"""
INIT = 'def init(self): return {"w": np.zeros(1)}'


@pytest.fixture
def counting(tmp_path: Path) -> Path:
    return write_package(tmp_path / "counting", COUNTING.format(init=INIT))


@pytest.fixture
def uninitialized(tmp_path: Path) -> Path:
    return write_package(tmp_path / "uninitialized", COUNTING.format(init=""))


def _trained(package: Path, **options: Any) -> tuple[Sandbox, list[float]]:
    """Returns the sandbox, which is closed, and the weight of each model of its folder, from the first round on."""
    with Sandbox(package, **{"clients": 2, "workers": 0, "random_seed": 3, **options}) as box:
        ended = box.run()
        assert ended["state"] == "finished", ended["reason"]
        return box, [float(box.weights(each.model)["w"][0]) for each in box.rounds()]


def _state(folder: Path) -> dict[Path, tuple[int, int]]:
    status = {each: each.stat() for each in (folder, *folder.rglob("*"))}
    return {each: (found.st_size, found.st_mtime_ns) for each, found in status.items()}


def _file(path: Path, value: float) -> str:
    formats.write({"w": np.full(1, float(value))}, path, formats.form_of(path))
    return str(path)


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors"])
def test_a_model_file_is_the_first_model_of_a_package_without_init(
    uninitialized: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match=r"no init\(\): .*--seed FILE .*`seed: FILE` in fedn\.yaml"):
        _trained(uninitialized)
    assert _trained(uninitialized, rounds=1, seed=_file(tmp_path / name, 10))[1] == [11]


def test_a_run_gives_its_best_model_or_the_one_that_is_named(counting: Path, tmp_path: Path) -> None:
    _, models = _trained(counting, rounds=4, state_dir=tmp_path / "run", policy={"select": {"mode": "max"}})
    assert models == [1, 2, 3, 4]
    folder, before = str(tmp_path / "run"), _state(tmp_path / "run")
    assert _trained(counting, rounds=1, seed=folder)[1] == [3], "model 2 has the best score"
    assert _trained(counting, rounds=1, seed=f"{folder}:last")[1] == [5]
    assert _trained(counting, rounds=1, seed=f"{folder}:best")[1] == [3]
    first = next(each for each in tmp_path.glob("run/blobs/**/*-0001-*"))
    assert _trained(counting, rounds=1, seed=f"{folder}:{first.stem}")[1] == [2]
    with pytest.raises(NotFound, match="there is no model 'none'"):
        _trained(counting, seed=f"{folder}:none")
    assert _state(tmp_path / "run") == before


def test_a_model_of_the_same_folder_is_named_by_its_id(counting: Path, tmp_path: Path) -> None:
    with Sandbox(counting, clients=2, workers=0, rounds=1, state_dir=tmp_path / "run") as box:
        box.run()
        made = box.model()["model"]
    (tmp_path / "run" / "sandbox.json").unlink()
    assert _trained(counting, rounds=1, seed=made, state_dir=tmp_path / "run")[1] == [2]


def test_what_is_no_seed_is_refused_with_what_can_be_one(counting: Path) -> None:
    with pytest.raises(
        ConfigError, match="seed 'nowhere/x' is no model that it has, no model file, and no folder of a run"
    ):
        _trained(counting, seed="nowhere/x")


def test_a_packages_own_file_is_its_first_model(uninitialized: Path) -> None:
    _file(uninitialized / "first.npz", 20)
    with (uninitialized / "fedn.yaml").open("a") as manifest:
        manifest.write("seed: first.npz\n")
    assert _trained(uninitialized, rounds=1)[1] == [21]


def test_more_rounds_on_a_finished_folder_train_the_rest_from_its_last_model(counting: Path, tmp_path: Path) -> None:
    policy = {"schedule": {"by": {"1": 1.0, "3": 10.0, "6": 100.0}, "at": {"1": 1, "5": 2}}}
    before, models = _trained(counting, rounds=4, state_dir=tmp_path / "run", policy=policy)
    assert models == [1, 2, 12, 22]
    with Sandbox(
        counting, clients=2, workers=0, rounds=8, state_dir=tmp_path / "run", policy=policy, random_seed=3
    ) as box:
        ended = box.run()
        rounds = list(box.rounds())
        records = {name: box.records.get(tables.SESSIONS, name) for name in box.chain.sessions}
        assert box.model("best", metric="score", mode="max")["model"] == rounds[1].model, "of both sessions"
        assert box.model("last")["model"] == rounds[-1].model
    assert [each.number for each in rounds] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [each.session for each in rounds] == [before.session] * 4 + [ended["session"]] * 4
    assert ended["policy"]["rounds"] == 4
    assert ended["policy"]["seed"] == records[before.session]["model"]  # type: ignore[index]
    assert ended["policy"]["schedule"] == {"by": {"1": 10.0, "2": 100.0}, "at": {"1": 2}}
    assert ended["policy"]["random_seed"] != 3, "the draws of the first rounds are not repeated"
    _, models = _trained(counting, state_dir=tmp_path / "run")
    assert models == [1, 2, 12, 22, 32, 132, 232, 332], "the folder's own policy, and no further training"


def test_a_server_optimizer_begins_anew_in_the_session_of_more_rounds(counting: Path, tmp_path: Path) -> None:
    momentum = {"name": "fedavgm", "parameters": {"momentum": 0.5}}
    assert _trained(counting, rounds=3, strategy=momentum)[1] == [1, 2.5, 4.25]
    folder = {"strategy": momentum, "state_dir": tmp_path / "folder"}
    assert _trained(counting, rounds=2, **folder)[1] == [1, 2.5]
    assert _trained(counting, rounds=3, **folder)[1] == [1, 2.5, 3.5]


def test_more_rounds_on_a_folder_whose_session_ended_early_count_on_from_its_last_round(
    counting: Path, tmp_path: Path
) -> None:
    policy = {"select": {"metric": "score", "mode": "max"}, "stop": {"patience": 1}}
    _, models = _trained(counting, rounds=5, state_dir=tmp_path / "run", policy=policy)
    assert models == [1, 2, 3], "the score falls after model 2"
    with Sandbox(counting, clients=2, workers=0, rounds=9, state_dir=tmp_path / "run", policy=policy) as box:
        assert box.run()["policy"]["rounds"] == 6
        assert [each.number for each in box.rounds()] == [1, 2, 3, 4, 5], "its own first model is the measure"


def test_more_rounds_on_a_folder_that_was_interrupted_finish_its_session_first(counting: Path, tmp_path: Path) -> None:
    with Sandbox(counting, clients=2, workers=0, rounds=3, state_dir=tmp_path / "run", random_seed=3) as box:
        for _ in box.rounds():
            break
    again, models = _trained(counting, rounds=5, state_dir=tmp_path / "run")
    assert models == [1, 2, 3, 4, 5]
    assert len(again.chain.sessions) == 2
    assert _trained(counting, rounds=5, state_dir=tmp_path / "run")[1] == models


def test_other_options_are_named_with_both_values_and_the_advice_works(counting: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _trained(counting, rounds=2, state_dir=folder, train={"by": 1.0}, policy={"select": {"mode": "max"}})
    with pytest.raises(ConfigError) as refusal:
        _trained(counting, rounds=2, state_dir=folder, train={"by": 2.0}, clients=3, policy={"select": {"mode": "max"}})
    words = refusal.value.reason
    assert "--clients differs: 2 there, 3 here; --set train.by differs: 1.0 there, 2.0 here" in words
    assert f"--seed {folder} and another --state-dir" in words
    with pytest.raises(ConfigError, match="--rounds differs: 2 there, 1 here"):
        _trained(counting, rounds=1, state_dir=folder, train={"by": 1.0}, policy={"select": {"mode": "max"}})
    given = {"train": {"by": 2.0}, "clients": 3, "seed": str(folder), "rounds": 1}
    assert _trained(counting, state_dir=tmp_path / "other", **given)[1] == [4]


def test_a_folder_of_an_older_version_is_resumed(counting: Path, tmp_path: Path) -> None:
    _trained(counting, rounds=2, state_dir=tmp_path / "run")
    path = tmp_path / "run" / "sandbox.json"
    kept = json.loads(path.read_text())
    del kept["totals"]
    path.write_text(json.dumps(kept))
    assert _trained(counting, rounds=2, state_dir=tmp_path / "run")[1] == [1, 2]


LINEAR = """
import numpy as np
from fedmq_client import SklearnTrainer
from sklearn.linear_model import SGDRegressor

class Trainer(SklearnTrainer):
    def model(self):
        return SGDRegressor()

    def data(self, client):
        return np.ones((4, 2)), np.ones(4)
"""
OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "a name": ({"coef": np.zeros(2), "v": np.zeros(1)}, "it lacks intercept and it has v"),
    "a longer list": ({name: np.zeros(1) for name in "012"}, "it lacks coef, intercept and it has 0, 1, 2"),
    "a shape": (
        {"coef": np.zeros(3), "intercept": np.zeros(1)},
        "it has other shapes than init makes: coef is [3] and not [2]",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_seed_that_a_shipped_trainer_can_not_use_is_refused_before_the_first_round(
    tmp_path: Path, other: str
) -> None:
    require_framework("sklearn")
    weights, words = OTHERS[other]
    package, path = write_package(tmp_path / "linear", LINEAR), tmp_path / "other.safetensors"
    formats.write(weights, path, "safetensors")
    events: list[str] = []
    refused = re.escape(words) + ". Leave out the seed, so that init"
    with (
        pytest.raises(ConfigError, match=f"the seed does not fit .*{refused}"),
        Sandbox(
            package, clients=2, workers=0, seed=str(path), on_event=lambda _, event: events.append(event.name)
        ) as box,
    ):
        box.run()
    assert events == []
    with Sandbox(package, clients=2, workers=0, rounds=1) as box:
        assert box.run()["state"] == "finished", "the advice"


@pytest.mark.parametrize("weights", [{"0": np.zeros(1)}, {"w": np.zeros(1), "extra": np.zeros(1)}])
def test_a_trainer_of_the_users_own_may_take_any_seed(tmp_path: Path, weights: dict[str, Any]) -> None:
    code = """
import numpy as np

class Trainer:
    def __init__(self, client): ...
    def init(self): return {"w": np.zeros(1)}
    def train(self, weights, task): return {name: value + 1 for name, value in weights.items()}, 1, {}
"""
    path = tmp_path / "list.npz"
    formats.write(weights, path, "npz")
    with Sandbox(write_package(tmp_path / "own", code), clients=2, workers=0, rounds=1, seed=str(path)) as box:
        assert box.run()["state"] == "finished"
        assert {name: value.tolist() for name, value in box.weights().items()} == {name: [1] for name in weights}


def test_a_seed_is_compared_once_and_not_where_a_folder_is_resumed(counting: Path, tmp_path: Path) -> None:
    _trained(counting, rounds=1, state_dir=tmp_path / "run", seed=_file(tmp_path / "a.npz", 10))
    with patch("fedmq_sandbox.seed.check_fit", side_effect=AssertionError("compared again")):
        assert _trained(counting, rounds=2, state_dir=tmp_path / "run", seed=str(tmp_path / "a.npz"))[1] == [11, 12]


def test_a_session_of_the_api_with_another_packages_model_fails_with_the_trainers_reason(
    counting: Path, tmp_path: Path
) -> None:
    progress = SessionProgress(1)
    with served(tmp_path / "served", counting, clients=2) as there:
        alliance = Alliance(there.url)
        session = alliance.start(rounds=1, retries=0, seed=alliance.upload({"v": np.zeros(1)}))
        for row in session.follow():
            progress.feed(Event.model_validate({key: row[key] for key in Event.model_fields if key in row}))
        assert progress.reason.startswith("round 1 got 0 updates of 1 in 1 attempt")
        assert progress.reason.rstrip(")").endswith("train raised KeyError: 'w'"), (
            "init is not asked for another reason"
        )
        good = alliance.upload_blob(first_model(counting, 0))
        assert alliance.start(rounds=1, seed=good).wait(60)["state"] == "finished", "the advice"
