"""One job from bytes to bytes: what is kept, reported and returned."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.job.site import BLOB, MODEL, Site, same
from fedmq import tensors
from fedmq.errors import ConfigError
from fedmq_client import Cancelled, Client, Task, Weights
from fedmq_client.job.job import Job, Result, Validated
from fedmq_client.pool.inline import InlinePool


def test_the_delta_has_the_names_and_roles_of_the_model(site: Site) -> None:
    def train(weights: Weights, task: Task) -> Any:
        for name in weights:
            weights[name] += 0.5
        return weights, np.int64(3), {"loss": np.float32(0.5), "list": np.arange(2), "word": "x"}

    site.serve(train=train)
    result = site.run()
    assert (result.outcome, result.examples) == ("done", 3)
    assert result.metrics == {"loss": 0.5, "list": [0, 1], "word": "x"}
    assert type(result.metrics["loss"]) is float and type(result.examples) is int
    assert isinstance(result.update, bytes)
    delta, meta = tensors.decode(result.update)
    assert {name: value.tolist() for name, value in delta.items()} == {name: [0.5, 0.5] for name in MODEL}
    assert meta == {"roles": {"t0": "statistic"}}
    assert result.state is None


def test_weights_changed_in_place_never_reach_another_call(site: Site) -> None:
    seen: list[float] = []

    def spoil(weights: Weights, task: Task) -> Any:
        seen.append(float(weights["t1"].sum()))
        weights["t1"] += 100
        return 1, {}

    def train(weights: Weights, task: Task) -> Any:
        spoil(weights, task)
        return weights, 1, {}

    site.serve(train=train, validate=spoil)
    for _ in range(2):
        site.run(validate=True)
    assert seen == [2.0] * 4


def test_validation_is_reported_before_training(site: Site) -> None:
    def train(weights: Weights, task: Task) -> Any:
        site.reported.append("training")
        return None

    site.serve(train=train, validate=lambda weights, task: (4, {"loss": 1.0}))
    result = site.run(validate=True)
    validated = site.reported[0]
    assert isinstance(validated, Validated)
    assert (validated.job, validated.examples, validated.metrics) == ("j", 4, {"loss": 1.0})
    assert site.reported[1] == "training"
    assert result.outcome == "abstained"


def test_none_is_to_abstain(site: Site) -> None:
    site.serve(train=lambda weights, task: None, validate=lambda weights, task: None)
    assert site.run(validate=True).outcome == "abstained"
    assert site.run(kind="validate").outcome == "abstained"
    [validated] = [each for each in site.reported if isinstance(each, Validated)]
    assert (validated.examples, validated.metrics, validated.reason) == (None, {}, "validate returned None")
    assert validated.abstained and validated.plain == validated.reason


def test_what_used_no_examples_is_neither_an_update_nor_a_score(site: Site) -> None:
    site.serve(train=lambda weights, task: (weights, 0, {"loss": 1.0}), validate=lambda weights, task: (0, {"a": 1.0}))
    trained, validated = site.run(validate=True), site.run(kind="validate")
    assert (trained.outcome, trained.reason) == ("abstained", "train used no examples")
    assert (validated.outcome, validated.reason) == ("abstained", "validate used no examples")
    [before] = [each for each in site.reported if isinstance(each, Validated)]
    assert (before.metrics, before.reason, before.abstained) == ({}, "validate used no examples", True)


def test_a_trainer_need_not_validate_unless_it_is_asked_to(site: Site) -> None:
    site.serve(train=same)
    assert site.run(validate=True).outcome == "done"
    result = site.run(kind="validate")
    reason = "the trainer has no validate(weights, task), so it scores no model: write it"
    assert (result.outcome, result.reason) == ("failed", reason)
    [validated] = [each for each in site.reported if isinstance(each, Validated)]
    assert (validated.metrics, validated.reason, validated.abstained) == ({}, reason, True)


def test_a_wider_float_is_rounded_and_nan_is_left_to_the_combiner(site: Site) -> None:
    wide = {name: value.astype(np.float64) for name, value in MODEL.items()}
    wide["t0"] = np.array([np.nan, 1e300])
    site.serve(train=lambda weights, task: (wide, 1, {"loss": float("nan")}))
    result = site.run()
    assert result.outcome == "done"
    assert isinstance(result.update, bytes)
    delta = tensors.decode(result.update)[0]["t0"]
    assert np.isnan(delta[0]) and np.isinf(delta[1])


def test_an_exception_fails_the_job_with_the_users_own_frames(site: Site) -> None:
    def train(weights: Weights, task: Task) -> Any:
        raise ValueError("two\nlines")

    site.serve(train=train)
    result = site.run()
    assert (result.outcome, result.reason) == ("failed", "train raised ValueError: two lines")
    assert "in train" in result.traceback and "running.py" not in result.traceback
    assert result.seconds["train"] > 0


def test_of_an_exception_without_a_text_the_class_is_named(site: Site) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise KeyError("code")

    def train(weights: Weights, task: Task) -> Any:
        raise Mute

    site.serve(train=train)
    result = site.run()
    assert (result.outcome, result.plain) == ("failed", "train raised Mute")
    assert result.reason == "train raised Mute: its text can't be made, as its __str__ raised KeyError"
    assert "in train" in result.traceback


def test_a_trainer_is_kept_until_it_fails_or_its_client_changes(site: Site) -> None:
    fail: list[bool] = []

    def train(weights: Weights, task: Task) -> Any:
        if fail:
            raise RuntimeError
        return weights, 1, {}

    site.serve(train=train)
    site.run()
    site.run()
    assert len(site.made) == 1
    site.run(client=Client("c", ordinal=1, count=2))
    assert len(site.made) == 2
    fail.append(True)
    site.run(client=Client("c", ordinal=1, count=2))
    fail.clear()
    site.run(client=Client("c", ordinal=1, count=2))
    assert len(site.made) == 3


def test_state_is_kept_from_task_to_task_but_not_by_validation(site: Site) -> None:
    def train(weights: Weights, task: Task) -> Any:
        task.state["n"] = task.state.get("n", np.zeros(1)) + 1
        return weights, 1, {"n": task.state["n"]}

    def validate(weights: Weights, task: Task) -> Any:
        task.state["n"] = np.full(1, 99.0)
        return 1, {}

    site.serve(train=train, validate=validate)
    first = site.run(validate=True)
    second = site.run(validate=True, state=first.state)
    assert (first.metrics, second.metrics) == ({"n": [1.0]}, {"n": [2.0]})


def test_a_task_carries_what_the_job_says_and_the_seed_is_everywhere(site: Site) -> None:
    def train(weights: Weights, task: Task) -> Any:
        received = [task.session, task.round, task.rounds, task.seed, task.config, 0 < task.deadline <= 60]
        return weights, 1, {"task": received, "draws": [random.random(), float(np.random.rand())]}

    site.serve(train=train)
    changes = {"session": "s", "round": 2, "rounds": 3, "timeout": 60.0, "config": {"a": 1}}
    first, again, other = (site.run(random_seed=seed, **changes) for seed in (2**62, 2**62, 5))
    assert first.metrics["task"] == ["s", 2, 3, 2**62, {"a": 1}, True]
    assert first.metrics == again.metrics
    assert first.metrics["draws"] != other.metrics["draws"]


def test_cancelled_is_an_outcome_of_its_own(site: Site) -> None:
    def train(weights: Weights, task: Task) -> Any:
        site.pool.cancel("another")
        task.check()
        site.pool.cancel("j")
        task.check()

    site.serve(train=train)
    assert site.run().outcome == "cancelled"

    def give_up(weights: Weights, task: Task) -> Any:
        raise Cancelled

    site.serve(train=give_up)
    assert site.run().outcome == "cancelled"


def test_progress_is_passed_on_in_plain_numbers(site: Site) -> None:
    def train(weights: Weights, task: Task) -> Any:
        task.report(0.25, loss=np.float32(0.5))
        return None

    site.serve(train=train)
    site.run()
    assert site.reported[0] == ("j", 0.25, {"loss": 0.5}, "")


def test_init_gives_a_model_with_roles(site: Site) -> None:
    site.serve(train=same, init=lambda: {"w": np.ones(2), "n": 3}, roles=lambda: {"w": "statistic"})
    result = site.run(kind="init", model=None)
    assert isinstance(result.update, bytes)
    weights, meta = tensors.decode(result.update)
    assert {name: value.tolist() for name, value in weights.items()} == {"w": [1, 1], "n": 3}
    assert meta == {"roles": {"w": "statistic"}}
    again = site.run(kind="init", model=None)
    assert again.update == result.update


def test_files_are_written_by_rename_and_leave_nothing_beside_them(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    model = folder / "model"
    model.write_bytes(BLOB)
    (folder / "update").write_bytes(b"of before")
    (tmp_path / "reader's").hardlink_to(folder / "update")

    def train(weights: Weights, task: Task) -> Any:
        task.state["n"] = np.ones(1)
        return weights, 1, {}

    site.serve(train=train)
    result = site.run(model=model, output=folder / "update")
    assert (tmp_path / "reader's").read_bytes() == b"of before"
    assert (result.update, result.state) == (folder / "update", folder / "update.state")
    assert sorted(path.name for path in folder.iterdir()) == ["model", "update", "update.state"]


def test_a_model_file_that_was_replaced_is_read_anew(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "model"
    sums: list[float] = []

    def train(weights: Weights, task: Task) -> Any:
        sums.append(float(weights["t1"].sum()))
        return None

    site.serve(train=train)
    for value in (1, 2):
        scratch = tmp_path / "scratch"
        scratch.write_bytes(tensors.encode({"t1": np.full(2, value, np.float32)}))
        scratch.replace(path)
        site.run(model=path)
    assert sums == [2, 4]


def test_a_closed_pool_takes_no_job(site: Site) -> None:
    site.pool.close()
    site.pool.close()
    with pytest.raises(ConfigError, match="closed"):
        site.run()


def test_a_module_of_functions_may_have_all_names_of_a_trainer(tmp_path: Path) -> None:
    (tmp_path / "fedn.yaml").write_text("trainer: functions.py\n")
    (tmp_path / "functions.py").write_text(
        "import numpy as np\n"
        "roles = {'w': 'statistic'}\n"
        "def init(): return {'w': np.zeros(1)}\n"
        "def meta(): return {'note': 'mine'}\n"
        "def train(weights, task): return weights, 1, {}\n"
    )
    results: list[Result] = []
    InlinePool().submit(Job("j", Client("c"), tmp_path, "init"), lambda _: None, lambda *_: None, results.append)
    assert isinstance(results[0].update, bytes), results
    assert tensors.decode(results[0].update)[1] == {"note": "mine", "roles": {"w": "statistic"}}


def _first(package: Path, pool: InlinePool) -> Any:
    results: list[Result] = []
    pool.submit(Job("j", Client("c"), package, "init"), lambda _: None, lambda *_: None, results.append)
    assert isinstance(results[0].update, bytes), results
    return tensors.decode(results[0].update)[0]["w"].tolist()


@pytest.mark.parametrize("name", ["package", "link"])
def test_a_new_pool_of_the_same_process_reads_a_changed_package(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    (folder / "fedn.yaml").write_text("trainer: functions.py\n")
    found = []
    for value in (1.0, 22.0):  # of another length, by which Python knows a file as changed within one second
        (folder / "beside.py").write_text(f"VALUE = {value}\n")
        (folder / "functions.py").write_text(
            "import numpy as np\n"
            "import beside\n"
            f"def init(): return {{'w': np.array([beside.VALUE, {value}])}}\n"
            "def train(weights, task): return weights, 1, {}\n"
        )
        found.append(_first(tmp_path / name, InlinePool()))
    assert found == [[1.0, 1.0], [22.0, 22.0]]


def test_pools_of_one_process_share_the_classes_of_a_package_as_long_as_one_of_them_is_open(tmp_path: Path) -> None:
    (tmp_path / "fedn.yaml").write_text("trainer: pickling.py\n")
    (tmp_path / "pickling.py").write_text(
        "import pickle\n"
        "import numpy as np\n"
        "class Row: number = 0\n"
        "def init():\n"
        "    Row.number += 1\n"
        "    return {'w': np.array([pickle.loads(pickle.dumps(Row())).number])}\n"
        "def train(weights, task): return weights, 1, {}\n"
    )
    first, second = InlinePool(), InlinePool()
    assert [_first(tmp_path, pool) for pool in (first, second, first)] == [[1], [2], [3]]
    first.close()
    assert _first(tmp_path, second) == [4]
    second.close()
    assert _first(tmp_path, InlinePool()) == [1], "a new run begins anew"
