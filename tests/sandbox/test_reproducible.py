"""The same random seed gives the same model bytes, however the alliance is laid out."""

from collections.abc import Mapping
from typing import Any

import pytest

from fedmq_sandbox import Sandbox
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


@pytest.mark.real  # worker processes
def test_worker_processes_give_the_bytes_of_one_process() -> None:
    policy = {"rounds": 2, "random_seed": 5}
    assert sha256_of(policy, workers=2) == sha256_of(policy, workers=0)


def test_another_random_seed_gives_another_model() -> None:
    one, other = ({"rounds": 2, "random_seed": seed, "clients": {"fraction": 0.6}} for seed in (1, 2))
    assert sha256_of(one) != sha256_of(other)
