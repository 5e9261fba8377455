"""A second aggregation rule, added as the how-to page says: in a whole session, and where it must be refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedmq.aggregation import RULES
from fedmq.tensors import tensorblob
from fedmq_cli.verifying import verdict_on
from fedmq_sandbox import Sandbox
from fedmq_schemas import records as tables
from fedmq_schemas.records import Ledger
from fedmq_sdk import Alliance
from support.packages import write_package
from support.rules import documented_median

TRAINER = """
import numpy as np

class Trainer:
    def __init__(self, client):
        self.client = client

    def init(self):
        return {"w": np.linspace(-1, 1, 7, dtype=np.float32), "n": np.array([3], np.int64)}

    def train(self, weights, task):
        noise = np.random.default_rng(task.seed).standard_normal(7)
        weights["w"] += (noise * 10.0 ** self.client.ordinal).astype(np.float32)
        weights["n"] += self.client.ordinal + task.round
        return weights, 1 + self.client.ordinal, {}
"""
ROUNDS, CLIENTS = 2, 4


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(RULES, "median", documented_median())
    return write_package(tmp_path / "package", TRAINER)


def sandbox(package: Path, combiners: int, rule: str = "median") -> Sandbox:
    policy = {"rounds": ROUNDS, "random_seed": 3, "validation": "none", "strategy": {"rule": rule}}
    return Sandbox(
        package,
        policy={**policy, "clients_required": CLIENTS},
        clients=CLIENTS,
        combiners=combiners,
        workers=0,
        state_dir=package.parent / "state",
        evaluator=False,
    )


def test_a_session_on_one_combiner_commits_the_median_that_numpy_computes(package: Path) -> None:
    with sandbox(package, combiners=1) as box:
        record = box.run()
        assert (record["state"], record["reason"]) == ("finished", "")
        models = box.records.find(tables.MODELS, {"session": box.session}, order="round")
        assert len(models) == ROUNDS
        for model in models:
            ledger = Ledger.model_validate_json(box.blobs.get(model["ledger"]["key"]))
            assert ledger.strategy["rule"] == "median"
            parent = tensorblob.decode(box.blobs.get(ledger.parent.key))[0]
            made = tensorblob.decode(box.blobs.get(model["ref"]["key"]))[0]
            refs = [entry.blob for entry in ledger.entries if entry.blob is not None]
            updates = [tensorblob.decode(box.blobs.get(ref.key))[0] for ref in refs]
            assert len(updates) == CLIENTS
            median = np.median([update["w"].astype(np.float64) for update in updates], axis=0)
            assert made["w"].tolist() == (parent["w"] + median).astype(np.float32).tolist()
            assert made["n"] == parent["n"] + np.rint(np.median([update["n"] for update in updates]))
            assert made["w"].tolist() != (parent["w"] + np.mean([u["w"] for u in updates], axis=0)).tolist()
    trail = Alliance(state_dir=package.parent / "state")
    assert verdict_on(trail, models[-1]["model"])["verdict"] == "recomputed: the same bytes"


def test_a_session_on_two_combiners_fails_before_it_trains_and_says_why(package: Path) -> None:
    with sandbox(package, combiners=2) as box:
        record = box.run()
        assert record["state"] == "failed"
        assert record["reason"].startswith("the rule 'median' does not compose over combiners")
        assert "of round 1 are at 2 combiners" in record["reason"]
        assert box.records.find(tables.MODELS, {"session": box.session}) == []
        assert [info.key for info in box.blobs.list("updates/")] == []


def test_a_rule_that_does_not_exist_is_refused_with_a_suggestion(package: Path) -> None:
    with sandbox(package, combiners=1, rule="medean") as box:
        record = box.run()
        assert record["state"] == "failed"
        assert record["reason"] == "strategy: there is no rule 'medean'; did you mean 'median'?"
