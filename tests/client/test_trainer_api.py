"""What user code sees: Client, Task, and the names it may import."""

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedmq_client
from fedmq_client import Cancelled, Client, Task
from fedmq_client.frameworks import BUILT_IN
from support.clock import Clock


def test_the_public_names_are_these() -> None:
    assert fedmq_client.__all__ == [
        "Alliance",
        "Cancelled",
        "Client",
        "KerasTrainer",
        "SklearnTrainer",
        "Task",
        "TorchTrainer",
        "Trainer",
        "Weights",
    ]
    for name in set(fedmq_client.__all__) - {entry.attr for entry in BUILT_IN}:
        assert getattr(fedmq_client, name) is not None
    # Frameworks take seconds to import: each one's own tests do. Here the class is looked up in the source.
    for entry in BUILT_IN:
        found = find_spec(entry.module)
        assert found is not None and found.origin is not None
        tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
        assert entry.attr in fedmq_client.__all__
        assert entry.attr in {each.name for each in tree.body if isinstance(each, ast.ClassDef)}
    with pytest.raises(AttributeError):
        _ = fedmq_client.nothing


def test_a_numpy_trainer_loads_no_framework_and_no_server() -> None:
    code = """
import sys
import fedmq_client.pool.worker, fedmq_client.pool.inline
heavy = {"keras", "tensorflow", "torch", "sklearn", "pydantic", "pika", "pymongo", "minio", "rich", "typer"}
print(sorted(heavy & set(sys.modules)))
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


def test_the_deadline_counts_down() -> None:
    clock = Clock()
    task = Task(client=Client("c"), timeout=30, clock=clock)
    assert task.deadline == 30
    clock.now += 31
    assert task.deadline == -1
    assert Task(client=Client("c")).deadline == float("inf")


def test_at_most_one_report_a_second_is_sent_on() -> None:
    clock = Clock()
    sent: list[tuple[float, dict[str, Any]]] = []
    task = Task(client=Client("c"), clock=clock, progress=lambda *report: sent.append(report))
    for step in range(25):
        task.report(step / 8, loss=step)
        clock.now += 0.125
    assert sent == [(0.0, {"loss": 0}), (1.0, {"loss": 8}), (1.0, {"loss": 16}), (1.0, {"loss": 24})]


def test_a_report_to_nobody_is_fine() -> None:
    Task(client=Client("c")).report(0.5)


def test_check_raises_once_the_task_is_cancelled() -> None:
    cancelled: list[bool] = []
    task = Task(client=Client("c"), is_cancelled=lambda: bool(cancelled))
    task.check()
    assert not task.cancelled
    cancelled.append(True)
    assert task.cancelled
    with pytest.raises(Cancelled):
        task.check()


def test_config_and_state_are_the_tasks_own() -> None:
    config = {"epochs": 1}
    state = {"a": np.zeros(1)}
    task = Task(client=Client("c"), config=config, state=state)
    task.config["epochs"] = 2
    task.state["b"] = np.ones(1)
    assert config == {"epochs": 1}
    assert list(state) == ["a"]


def test_an_evaluator_is_a_client_that_only_validates() -> None:
    assert Client("c", tasks=("validate",)).evaluator
    assert not Client("c").evaluator
    assert not Client("c", tasks=("train",)).evaluator
