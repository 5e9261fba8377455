"""A trainer that is written by hand for a PyTorch module with batch norm, under a server optimizer that adapts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch  # noqa: F401 (makes this module one of those that need PyTorch)
from typer.testing import CliRunner

from fedmq.tensors import tensorblob
from fedmq_cli.app import app
from fedmq_sandbox import Sandbox
from fedmq_schemas import keys

TRAINER = """
import numpy as np
import torch
from torch import nn
import fedmq_client.torch

class Trainer:
    def __init__(self, client):
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.x = torch.from_numpy(np.random.default_rng(client.ordinal).normal(size=(32, 3)).astype("f4")) * 9

    def init(self):
        return fedmq_client.torch.get(self.net)

    def train(self, weights, task):
        fedmq_client.torch.put(self.net, weights)
        self.net.train()
        optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            self.net(self.x).square().mean().backward()
            optimizer.step()
        new = fedmq_client.torch.get(self.net)
        return new, len(self.x), {"var": new["0005/1.running_var"], "steps": int(new["0006/1.num_batches_tracked"])}
"""
ROLES = """
    def roles(self):
        return fedmq_client.torch.roles(self.net)
"""
VARIANCE = "0005/1.running_var"


def _package(folder: Path, code: str) -> Path:
    (folder / "fedn.yaml").write_text("trainer: trainer.py:Trainer\n")
    (folder / "trainer.py").write_text(code)
    return folder


def _after_a_round(package: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the model's variances, and the mean of those of its clients, after a round under FedAdam."""
    policy: dict[str, Any] = {"rounds": 1, "random_seed": 3, "strategy": {"name": "fedadam"}}
    with Sandbox(package, policy=policy, clients=2, workers=0) as box:
        session = box.run()
        model, _ = tensorblob.decode(box.blobs.get(keys.model_blob(session["model"])))
        ledger = box.records.find("events", {"session": session["session"], "name": "update.accepted"})
        assert [event["data"]["metrics"]["steps"] for event in ledger] == [3, 3]
        assert model["0006/1.num_batches_tracked"] == 3
        mean = np.mean([event["data"]["metrics"]["var"] for event in ledger], axis=0)
    return model[VARIANCE], mean


def test_with_the_modules_roles_statistics_are_averaged_and_not_stepped(tmp_path: Path) -> None:
    package = _package(tmp_path, TRAINER + ROLES)
    variance, mean = _after_a_round(package)
    np.testing.assert_allclose(variance, mean, rtol=1e-6)
    checked = CliRunner().invoke(app, ["check", str(package)])
    assert checked.exit_code == 0, checked.output
    assert "roles     6 trainable, 2 statistic, 1 counter" in checked.stdout
    assert "looks like a statistic" not in checked.stdout


def test_without_roles_the_check_warns_of_what_an_adaptive_optimizer_would_step(tmp_path: Path) -> None:
    package = _package(tmp_path, TRAINER)
    variance, mean = _after_a_round(package)
    assert np.abs(variance - mean).max() > 0.1, "FedAdam has stepped the variances"
    checked = CliRunner().invoke(app, ["check", str(package)])
    assert checked.exit_code == 0, checked.output
    assert "note      0004/1.running_mean (and 1 more) looks like a statistic and is trainable" in checked.stdout
    assert "fedmq_client.torch.roles(model)" in checked.stdout


@pytest.mark.parametrize("name", ["TorchTrainer", "KerasTrainer", "SklearnTrainer", "Alliance", "torch", "Client"])
def test_tab_completion_lists_what_is_imported_when_it_is_first_used(name: str) -> None:
    import fedmq_client

    assert name in dir(fedmq_client)
