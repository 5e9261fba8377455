"""How a session's model is compared with the one that a package's `init` makes: as shipped trainers take it."""

from typing import Any

import numpy as np
import pytest

from client.job.site import Site
from fedmq import tensors
from fedmq_client.job.first_model import misfit


def _model(*names: str, shape: tuple[int, ...] = (2,)) -> dict[str, Any]:
    return {name: np.zeros(shape, np.float32) for name in names}


@pytest.mark.parametrize(
    ("model", "own"),
    [
        (_model("w", "b"), _model("b", "w")),
        (_model("0", "1"), _model("0000/w", "0001/b")),
        (_model("w", "b"), _model("0000/w", "0001/b")),
        (_model("0000/w", "0001/b"), _model("0", "1")),
        (_model("w", "b"), _model("0", "1")),
    ],
)
def test_names_fit_as_the_shipped_trainers_accept_them(model: dict[str, Any], own: dict[str, Any]) -> None:
    assert misfit(model, own) == ""


@pytest.mark.parametrize(
    ("model", "own", "words"),
    [
        (_model("w"), _model("w", "b"), "it lacks b"),
        (_model("0", "1"), _model("w", "b"), "it lacks b, w and it has 0, 1, which init does not make"),
        (_model("0000/w", "0001/b"), _model("w", "b"), "it lacks b, w and it has 0000/w, 0001/b, which"),
        (_model("0", "1", "2"), _model("0", "1"), "it has 2, which init does not make"),
        (_model("w", shape=(3,)), _model("0000/w"), "it has other shapes than init makes: w is [3] and not [2]"),
        (_model(*"abcde"), {}, "it has a, b, c and 2 more, which init does not make"),
    ],
)
def test_what_differs_is_named(model: dict[str, Any], own: dict[str, Any], words: str) -> None:
    assert words in misfit(model, own)


OTHER = (
    "The session's model is not this package's, as it lacks w and it has v, which init does "
    "not make: start from a model of this package, as `fedmq seed --package DIR` makes one"
)


def _failing(weights: Any, task: Any) -> Any:
    return {"w": weights["w"]}, 1, {}


def test_the_reason_of_a_failure_in_the_first_round_says_that_the_model_is_another_packages(site: Site) -> None:
    site.serve(train=_failing, init=lambda: _model("w"))
    other = tensors.encode(_model("v"))
    result = site.run(model=other)
    assert (result.outcome, result.reason) == ("failed", f"train raised KeyError: 'w'. {OTHER}")
    assert site.run(model=other, round=2).reason == "train raised KeyError: 'w'"
    site.serve(train=lambda *_: 1 / 0, init=lambda: _model("w"))
    own = site.run(model=tensors.encode(_model("w")))
    assert own.reason == "train raised ZeroDivisionError: division by zero", "it fails for another reason"


@pytest.mark.parametrize("methods", [{}, {"init": lambda: 1 / 0}, {"init": lambda: None}])
def test_nothing_is_said_where_a_package_makes_no_model(site: Site, methods: dict[str, Any]) -> None:
    site.serve(train=_failing, **methods)
    result = site.run(model=tensors.encode(_model("v")))
    assert (result.reason, result.notes) == ("train raised KeyError: 'w'", ())
    compared = site.run(kind="compare", model=tensors.encode(_model("v")))
    assert (compared.outcome, compared.reason) == ("done", "")
