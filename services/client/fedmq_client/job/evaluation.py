"""Decides whether an evaluator may score a model with a package: only if the package states that it has a test set."""

from typing import Any

from fedmq.evaluators import NO_TEST_SET
from fedmq_client.packages.package import FLOWER, MANIFEST, Package
from fedmq_client.trainer import Client


def missing_test_set(package: Package, trainer: Any, client: Client) -> str:
    """Returns why an evaluator of this package gives no score, and the remedy; an empty text if it may score.

    Most trainers give an evaluator the data of a client that trains, so a package must state that it has a test set: the
    trainer by `test_set = True`, any package by `test_set: true` in fedn.yaml.
    """
    if package.test_set or getattr(trainer, "test_set", False) is True:
        return ""
    if package.runs_commands(client.form):
        remedy = f"if validate scores one where FEDMQ_EVALUATOR is 1, add `test_set: true` to {MANIFEST}"
    elif (package.trainer or "").startswith(FLOWER):
        remedy = f"if the app scores one where node_config has 'evaluator', add `test_set: true` to {MANIFEST}"
    elif hasattr(trainer, "test_data"):
        remedy = "return one from test_data(self, client) in the trainer"
    else:
        remedy = "if validate scores one where client.evaluator is true, set `test_set = True` in the trainer"
    return f"{NO_TEST_SET}; {remedy}"
