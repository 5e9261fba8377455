"""The same random seed gives the same model bytes, however the alliance is laid out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from fedmq import tensors
from fedmq_sandbox import Sandbox
from fedmq_schemas import records as tables
from fedmq_schemas.records import Ledger
from sandbox.commands import REGRESSION


def sha256_of(policy: Mapping[str, Any], **options: Any) -> str:
    """The hash of the last model of one session on the regression example."""
    with Sandbox(REGRESSION, policy=policy, **{"workers": 0, **options}) as sandbox:
        assert sandbox.run()["state"] == "finished"
        return str(sandbox.model()["ref"]["sha256"])


POLICIES = {
    "all clients": {"rounds": 4, "random_seed": 11},
    "60 % of the clients": {"rounds": 4, "random_seed": 11, "clients": {"fraction": 0.6}},
    "a server optimizer with state": {"rounds": 4, "random_seed": 11, "strategy": {"name": "fedadam"}},
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
def test_the_number_of_combiners_changes_no_bit(policy: dict[str, Any]) -> None:
    assert len({sha256_of(policy, combiners=number) for number in (1, 2, 5)}) == 1


def test_unequal_parts_change_no_bit_either() -> None:
    policy = {"rounds": 3, "random_seed": 3, "clients": {"fraction": 0.6}}
    assert len({sha256_of(policy, combiners=number, clients=7, dirichlet=0.5) for number in (1, 3)}) == 1


def test_worker_processes_give_the_bytes_of_one_process() -> None:
    policy = {"rounds": 2, "random_seed": 5}
    assert sha256_of(policy, workers=2) == sha256_of(policy, workers=0)


def test_another_random_seed_gives_another_model() -> None:
    one, other = ({"rounds": 2, "random_seed": seed, "clients": {"fraction": 0.6}} for seed in (1, 2))
    assert sha256_of(one) != sha256_of(other)


def test_two_combiners_with_unequal_clients_give_the_weighted_mean_and_no_mean_of_means() -> None:
    with Sandbox(REGRESSION, workers=0, dirichlet=0.5, rounds=1, random_seed=2) as sandbox:
        sandbox.run()
        committed = sandbox.records.find(tables.ROUNDS)[0]
        ledger = Ledger.model_validate_json(sandbox.blobs.get(committed["ledger"]["key"]))
        parent = tensors.decode(sandbox.blobs.get(ledger.parent.key))[0]
        model = tensors.decode(sandbox.blobs.get(committed["model"]["key"]))[0]
        updates = {
            entry.client: (entry.weight, tensors.decode(sandbox.blobs.get(entry.blob.key))[0])
            for entry in ledger.entries
            if entry.blob is not None
        }
        combiners = {document["client"]: document["combiner"] for document in sandbox.records.find(tables.CLIENTS)}
    weights = [weight for weight, _ in updates.values()]
    assert len(set(weights)) > 1 and sum(weights) == committed["total_weight"]
    for name, array in model.items():
        mean = sum(w * delta[name].astype(np.float64) for w, delta in updates.values()) / sum(weights)
        assert np.allclose(array, parent[name] + mean, rtol=1e-9, atol=0)
        groups: dict[str, list[Any]] = {}
        for client, (_, delta) in updates.items():
            groups.setdefault(combiners[client], []).append(delta[name].astype(np.float64))
        mean_of_means = np.mean([np.mean(deltas, axis=0) for deltas in groups.values()], axis=0)
        assert len(groups) == 2 and not np.allclose(mean, mean_of_means, rtol=1e-6)
