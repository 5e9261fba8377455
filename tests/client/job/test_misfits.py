"""How a first model from elsewhere is compared with a package's: only with the network of a shipped trainer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from client.job.site import Site
from fedmq import tensors
from fedmq_client.job.first_model import misfit


def _model(*names: str, shape: tuple[int, ...] = (2,)) -> dict[str, Any]:
    return {name: np.zeros(shape, np.float32) for name in names}


OWN = _model("0000/w", "0001/b")


@pytest.mark.parametrize("names", [("0000/w", "0001/b"), ("0", "1"), ("w", "b"), ("module.w", "module.b")])
def test_names_fit_as_the_shipped_trainers_accept_them(names: tuple[str, ...]) -> None:
    assert misfit(_model(*names), OWN) == ""


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (_model("w"), "it lacks b"),
        (_model("w", "b", "v"), "it has v"),
        (_model("0", "1", "2"), "it has 0, 1, 2"),
        (_model("w", "b", shape=(3,)), "it has other shapes than init makes: w is [3] and not [2], b is [3] and not"),
    ],
)
def test_what_differs_is_named(model: dict[str, Any], words: str) -> None:
    assert words in misfit(model, OWN)


def _recorded(calls: list[str]) -> Callable[[], Any]:
    def init() -> Any:
        calls.append("init")
        return _model("w")

    return init


@pytest.mark.parametrize("error", [KeyError("w"), FileNotFoundError("data.csv")])
def test_init_is_not_called_after_a_failure_whose_reason_is_the_trainers(site: Site, error: Exception) -> None:
    def train(weights: Any, task: Any) -> Any:
        raise error

    calls: list[str] = []
    site.serve(train=train, init=_recorded(calls))
    result = site.run(model=tensors.encode(_model("v")))
    assert (result.outcome, result.reason) == ("failed", f"train raised {type(error).__name__}: {error}")
    assert calls == []


def test_a_trainer_of_the_users_own_is_not_compared_as_it_may_take_any_names(site: Site) -> None:
    calls: list[str] = []
    site.serve(train=lambda *_: None, init=_recorded(calls))
    compared = site.run(kind="compare", model=tensors.encode(_model("v")))
    assert (compared.outcome, compared.reason, calls) == ("done", "", [])
