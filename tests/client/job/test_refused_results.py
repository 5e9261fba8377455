"""A wrong result of a trainer fails its job. The reason says what to return instead."""

from typing import Any

import numpy as np
import pytest

from client.job.site import BLOB, MODEL, Site, same
from fedmq import tensors
from fedmq_client import checks

OPAQUE = "a model that can't be averaged, such as a forest, is a uint8 array of its bytes, padded to one length"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.ones(2), "train returned an ndarray: return weights, examples, metrics or None"),
        ("text", "train returned a str: return weights, examples, metrics or None"),
        ((MODEL, 1), "train returned a tuple of 2"),
        (([], 1, {}), "train returned a list as weights: return a dict of arrays"),
        (({}, 1, {}), "lack t0, t1, t2 and 2 more"),
        (({**MODEL, "x": 1}, 1, {}), "have x, which the model has not"),
        (({**MODEL, "t1": np.zeros(3), "t2": np.zeros(())}, 1, {}), "t1 has shape (3,) and not (2,), t2 has"),
        (({**MODEL, "t1": np.zeros(2, complex)}, 1, {}), "t1 is complex128 and not float32"),
        (({**MODEL, "t1": ["a", "b"]}, 1, {}), "t1 is <U1 and not float32"),
        ((MODEL, 1.5, {}), "train returned 1.5 as examples: return an int of 0 or more"),
        ((MODEL, True, {}), "train returned True as examples"),
        ((MODEL, -1, {}), "train returned -1 as examples"),
        ((MODEL, 2**53, {}), "as examples"),
    ],
)
def test_rubbish_is_named_with_what_to_return_instead(site: Site, answer: Any, words: str) -> None:
    site.serve(train=lambda weights, task: answer)
    result = site.run()
    assert result.outcome == "failed"
    assert words in result.reason
    assert result.update is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("uint8", "a uint8"),
        ("UNet", "a UNet"),
        ("UniformModel", "a UniformModel"),
        ("OneHot", "a OneHot"),
        ("UninitializedParameter", "an UninitializedParameter"),
        ("object", "an object"),
        ("Linear", "a Linear"),
    ],
)
def test_a_kind_has_the_article_of_its_sound(name: str, words: str) -> None:
    assert checks.kind(type(name, (), {})()) == words


def test_opaque_bytes_of_another_length_are_refused_with_the_remedy(site: Site) -> None:
    model = tensors.encode({"tree": np.zeros(4, np.uint8)}, {"roles": {"tree": "opaque"}})
    site.serve(train=lambda weights, task: ({"tree": np.zeros(5, np.uint8)}, 1, {}))
    words = "tree has shape (5,) and not (4,): pad its bytes to one length for all rounds"
    assert site.run(model=model).reason.endswith(words)


def test_a_garbled_model_is_said_to_be_so(site: Site) -> None:
    site.serve(train=same)
    result = site.run(model=BLOB[:-3])
    assert result.outcome == "failed"
    assert result.reason.startswith("reading the model raised InvalidUpdate")


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ({}, "the trainer has no init()"),
        ({"init": lambda: b"tree"}, f"init returned a bytes: return a dict of named numpy arrays; {OPAQUE}"),
        ({"init": lambda: {"w": b"tree"}}, f"init returned a bytes as tensor 'w': give an array of numbers; {OPAQUE}"),
        ({"init": lambda: {"w": Site}}, f"init returned a type as tensor 'w': give an array of numbers; {OPAQUE}"),
        ({"init": lambda: []}, "init returned a list: return a dict of named numpy arrays"),
        ({"init": lambda: {"w": np.ones(1)}, "roles": {"w": "hero"}}, "not 'hero'"),
        ({"init": lambda: {"w": np.ones(1)}, "roles": {"v": "statistic"}}, "v"),
        ({"init": lambda: {"tree": np.zeros(9, np.uint8)}}, "tensor 'tree' holds integers, uint8 [9], and has no role"),
    ],
)
def test_a_model_can_not_be_made_of_rubbish(site: Site, methods: dict[str, Any], words: str) -> None:
    site.serve(train=same, **methods)
    result = site.run(kind="init", model=None)
    assert result.outcome == "failed"
    assert words in result.reason
