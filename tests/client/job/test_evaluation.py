"""An evaluator scores only with a package that states a test set; the remedy in the reason leads to a score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedmq import tensors
from fedmq_client import Client
from fedmq_client.job.job import Job, Result
from fedmq_client.packages.package import PackageError, load
from fedmq_client.pool.inline import InlinePool

MODEL = tensors.encode({"w": np.zeros(1)}, {})
EVALUATOR = Client("e", tasks=("validate",))

CLASS = """
class Trainer:
    def __init__(self, client):
        self.client = client

    def train(self, weights, task):
        return weights, 1, {}

    def validate(self, weights, task):
        return 1, {"tested": self.client.evaluator}
"""
FUNCTIONS = """
def train(weights, task):
    return weights, 1, {}

def validate(weights, task):
    return 1, {"tested": task.client.evaluator}
"""
FLOWER = """
class MyClient:
    def __init__(self, tested):
        self.tested = tested

    def fit(self, parameters, config):
        return parameters, 1, {}

    def evaluate(self, parameters, config):
        return 0.0, 1, {"tested": self.tested}

def client_fn(context):
    return MyClient(context.node_config.get("evaluator", False))
"""
COMMANDS = """
entry_points:
  train: {command: cp}
  validate: {command: sh validate.sh}
"""
SHELL = 'if [ $FEDMQ_EVALUATOR = 1 ]; then tested=true; else tested=false; fi\necho "{\\"tested\\": $tested}" > $2\n'
SHORT = 125
"""Characters of a note that every run shows."""
IN_CODE = "if validate scores one where client.evaluator is true, set `test_set = True` in the trainer"
FORMS = {
    "class": ("trainer: code.py:Trainer", "code.py", CLASS, IN_CODE),
    "functions": ("trainer: code.py", "code.py", FUNCTIONS, IN_CODE),
    "flower": (
        "trainer: flower:code.py:client_fn",
        "code.py",
        FLOWER,
        "if the app scores one where node_config has 'evaluator', add `test_set: true` to fedn.yaml",
    ),
    "commands": (
        COMMANDS,
        "validate.sh",
        SHELL,
        "if validate scores one where FEDMQ_EVALUATOR is 1, add `test_set: true` to fedn.yaml",
    ),
}


def _run(folder: Path, client: Client = EVALUATOR) -> Result:
    results: list[Result] = []
    job = Job("j", client, folder, "validate", model=MODEL)
    InlinePool().submit(job, lambda _: None, lambda *_: None, results.append)
    return results[0]


def _answer_of(result: Result) -> tuple[str, object]:
    return result.outcome, result.metrics.get("tested")


def _package(folder: Path, manifest: str, name: str, code: str) -> Path:
    folder.mkdir()
    (folder / "fedn.yaml").write_text(f"{manifest}\n")
    (folder / name).write_text(code)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_an_evaluator_abstains_with_a_remedy_that_leads_to_a_test_score(form: str, tmp_path: Path) -> None:
    manifest, name, code, remedy = FORMS[form]
    refused = _run(_package(tmp_path / "without", manifest, name, code))
    assert (refused.outcome, refused.metrics) == ("abstained", {})
    assert refused.reason == f"the package states no test set; {remedy}"
    assert len(refused.reason) <= SHORT
    if "fedn.yaml" in remedy:
        manifest += "\ntest_set: true"
    elif form == "class":
        code = code.replace("    def __init__", "    test_set = True\n\n    def __init__")
    else:
        code = f"test_set = True\n{code}"
    scored = _run(_package(tmp_path / "with", manifest, name, code))
    assert _answer_of(scored) == ("done", True), scored


@pytest.mark.parametrize("form", FORMS)
def test_a_client_that_trains_validates_on_its_own_data_with_or_without_a_test_set(form: str, tmp_path: Path) -> None:
    scored = _run(_package(tmp_path / "package", *FORMS[form][:3]), Client("c"))
    assert _answer_of(scored) == ("done", False), scored


def test_a_trainer_may_find_out_by_itself_whether_there_is_a_test_set(tmp_path: Path) -> None:
    code = CLASS.replace("self.client = client", "self.client = client; self.test_set = client.data is not None")
    folder = _package(tmp_path / "package", "trainer: code.py:Trainer", "code.py", code)
    assert _run(folder).outcome == "abstained"
    assert _run(folder, Client("e", tasks=("validate",), data=tmp_path)).outcome == "done"


def test_a_method_of_this_name_states_no_test_set(tmp_path: Path) -> None:
    code = f"{CLASS}\n    def test_set(self):\n        return []\n"
    assert _run(_package(tmp_path / "package", "trainer: code.py:Trainer", "code.py", code)).outcome == "abstained"


def test_only_true_or_false_states_a_test_set(tmp_path: Path) -> None:
    folder = _package(tmp_path / "package", "trainer: code.py\ntest_set: later", "code.py", FUNCTIONS)
    with pytest.raises(PackageError, match="test_set is 'later': write true if evaluators score a test set"):
        load(folder)
