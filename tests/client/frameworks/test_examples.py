"""What `data()` may return, in each framework: accepted with its number of examples, or refused with the remedy."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas
import pytest
import tensorflow
import torch
from keras import layers
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Subset, SubsetRandomSampler, TensorDataset

from client.frameworks.returning import (
    CLIENT,
    ROWS,
    Items,
    Keras,
    Network,
    Sized,
    Sklearn,
    Stream,
    Torch,
    Unsized,
    Warm,
    X,
    Y,
    collated,
)
from fedmq.errors import ConfigError
from fedmq_client import Client, Task, Weights


def pipeline() -> Any:
    return tensorflow.data.Dataset.from_tensor_slices((X, Y))


RAGGED = [[1.0, 2.0, 3.0], [1.0]] * 5
KINDS = (Torch, Keras, Sklearn)
OK = 10
"""The number of examples that a value is accepted with."""

TABLE: dict[str, tuple[Callable[[], Any], Any, Any, Any]] = {
    # What data() returns; then for Torch, Keras and Sklearn: the number of examples, or words of the refusal.
    "arrays": (lambda: (X, Y), OK, OK, OK),
    "a list of two": (lambda: [X, Y], OK, OK, OK),
    "lists of rows": (lambda: (X.tolist(), Y.tolist()), OK, OK, OK),
    "a list of arrays": (lambda: (list(X), list(Y)), OK, OK, OK),
    "tensors": (lambda: (torch.from_numpy(X), torch.from_numpy(Y)), OK, OK, OK),
    "float64 in the other byte order": (lambda: (X.astype(">f8"), Y.astype(">i4")), OK, OK, OK),
    "float16": (lambda: (X.astype(np.float16), Y.astype(np.uint8)), OK, OK, OK),
    "objects that are numbers": (lambda: (X.astype(object), Y), OK, OK, OK),
    "a column of labels": (lambda: (X, Y[:, None]), OK, OK, OK),
    "empty": (lambda: (X[:0], Y[:0]), 0, 0, 0),
    "None": (lambda: None, "None: return x, y", "None: return x, y", "None: return x, y"),
    "a scalar": (lambda: 3, "an int: return x, y", "an int: return x, y", "an int: return x, y"),
    "a text": (lambda: "train.csv", "a str: read the file", "a str: read the file", "a str: read the file"),
    "a path": (lambda: Path("x"), "read the file there", "read the file there", "read the file there"),
    "a 1-tuple": (lambda: (X,), "", "a tuple of 1: return x, y", "a tuple of 1: return x, y"),
    "a 4-tuple": (lambda: (X, Y, Y, Y), "", "a tuple of 4: return x, y", "a tuple of 4: return x, y"),
    "an empty tuple": (lambda: (), "an empty tuple: return x, y", "a tuple of 0: return", "a tuple of 0: return"),
    "a 0-d array": (lambda: (np.array(3), Y), "a single value", "a single value", "a single value"),
    "None within": (lambda: (X, None), "None as part 1", "None as y", "None as y"),
    "a dict": (lambda: {"x": X, "y": Y}, "", "a dict: return x, y", "a dict: return x, y"),
    "text within": (
        lambda: ([["a", "b", "c"]] * 10, Y),
        "text as part 0: make it numbers",
        "text as x: make it numbers",
        "text as x: make it numbers",
    ),
    "dates": (
        lambda: (np.full((10, 3), "2026-01-01", "M8[D]"), Y),
        r"datetime64\[D\] as part 0",
        r"datetime64\[D\] as x",
        r"datetime64\[D\] as x",
    ),
    "ragged": (lambda: (RAGGED, Y), "rows of different lengths.*: pad", "rows of different lengths", "rows of diff"),
    "unequal": (lambda: (X, Y[:7]), "arrays of 7 and 10 examples", "arrays of 7 and 10", "arrays of 7 and 10"),
    "masked": (
        lambda: (np.ma.masked_greater(X, 0), Y),
        r"masked values as part 0: fill them with .filled",
        "masked values as x",
        "masked values as x",
    ),
    "a generator": (
        lambda: iter(ROWS),
        "a list_iterator: its ex",
        "a list_iterator: its ex",
        "a list_iterator: its ex",
    ),
    "a generator within": (
        lambda: (X, iter(Y)),
        "as part 1: make it a list",
        "as y: make it a list",
        "as y: make it a",
    ),
    "sparse": (lambda: (sparse.csr_matrix(X), Y), r"\.toarray\(\), or return a Dataset", r"with \.toarray\(\)", OK),
    "sparse in other forms": (lambda: (sparse.coo_array(X), Y), r"\.toarray", r"\.toarray", OK),
    "a sparse tensor": (lambda: (torch.from_numpy(X).to_sparse(), Y), r"\.to_dense\(\)", None, None),
    "a Dataset": (lambda: TensorDataset(*map(torch.from_numpy, (X, Y))), OK, "a TensorDataset: return x, y", "a Ten"),
    "a list of examples": (lambda: ROWS, OK, "a list of 10: return x, y", "a list of 10: return x, y"),
    "what acts as a Dataset": (Sized, OK, "a Sized: return x, y", "a Sized: return x, y"),
    "a Dataset without length": (Unsized, "without a length: write its __len__", "an Unsized", "an Unsized"),
    "a loader": (lambda: DataLoader(Sized(), 4, shuffle=True), OK, "a DataLoader: return x, y", "a DataLoader"),  # type: ignore[arg-type]
    "a stream": (
        Stream,
        r"an IterableDataset \(Stream\): .*return list\(it\)",
        "a Stream: return x",
        "a Stream: return",
    ),
    "a loader of a stream": (lambda: DataLoader(Stream()), r"return list\(it\)", "a DataLoader", "a DataLoader"),
    "the stream as a list": (lambda: list(Stream()), OK, None, None),
    "a loader that chooses": (
        lambda: DataLoader(Sized(), sampler=SubsetRandomSampler([1, 2])),  # type: ignore[arg-type]
        r"batches of its own \(SubsetRandomSampler\): return its dataset, or torch.utils.data.Subset",
        None,
        None,
    ),
    "what that advises": (lambda: Subset(Sized(), [1, 2]), 2, None, None),  # type: ignore[arg-type]
    "items that make no batch": (Items, r"an Items whose first examples make no batch.*collate_fn", None, None),
    "those with a collate_fn": (lambda: DataLoader(Items(), 4, collate_fn=collated), OK, None, None),
    "a pipeline": (pipeline, "a tf.data pipeline .*return x, y", OK, "a tf.data pipeline"),
    "a batched pipeline": (lambda: pipeline().batch(4), "a tf.data pipeline", OK, "a tf.data pipeline"),
    "a pipeline of full batches": (lambda: pipeline().batch(4, drop_remainder=True), "a tf.data", 8, "a tf.data"),
    "an empty pipeline": (lambda: pipeline().take(0), "a tf.data", 0, "a tf.data"),
    "an endless pipeline": (lambda: pipeline().repeat(), "a tf.data", r"an endless tf.data.*leave out .repeat", None),
    "a pipeline of inputs": (lambda: pipeline().map(lambda x, y: x), "a tf.data", "without targets: let", None),
    "weights of examples": (lambda: (X, Y, np.ones(10)), "", OK, "a tuple of 3: return x, y"),
    "labels in columns": (lambda: (X, np.eye(2)[Y]), None, None, r"y of shape \(10, 2\).*y.argmax\(axis=1\)"),
    "images": (lambda: (X[:, :, None], Y), None, None, r"x of shape \(10, 3, 1\).*\.reshape\(len\(x\), -1\)"),
    "one feature": (lambda: (X[:, 0], Y), None, None, r"x of shape \(10,\).*\.reshape\(-1, 1\)"),
    "no examples at all": (lambda: ([], []), 0, 0, r"no examples, in shape \(0,\): let x be of shape \(0, features\)"),
}
"""None: not asked. An empty text: accepted, whatever the loss makes of such batches."""


def made(kind: type[Any], found: Callable[[], Any]) -> Any:
    return type(f"Returning{kind.__name__}", (kind,), {"found": staticmethod(found)})(CLIENT)


def trained(trainer: Any, weights: Weights, **config: Any) -> Any:
    return trainer.train({name: value.copy() for name, value in weights.items()}, Task(client=CLIENT, config=config))


CASES = [
    pytest.param(kind, found, expected, id=f"{name}-{kind.__name__}")
    for name, (found, *cells) in TABLE.items()
    for kind, expected in zip(KINDS, cells, strict=True)
    if expected is not None
]


@pytest.mark.parametrize(("kind", "found", "expected"), CASES)
def test_data_is_accepted_or_refused_at_init_with_the_remedy(kind: type[Any], found: Any, expected: Any) -> None:
    trainer = made(kind, found)
    if isinstance(expected, str) and expected:
        with pytest.raises(ConfigError, match=rf"^data\(\) returned .*{expected}"):
            trainer.init()
        return
    weights = trainer.init()
    if expected == "":
        return
    answer, scored = trained(trainer, weights, batch_size=4), trainer.validate(weights, Task(client=CLIENT))
    if expected == 0:
        assert (answer[1], scored) == (0, (0, {})), "which is to abstain"
    else:
        assert (answer[1], scored[0]) == (expected, expected)
        assert np.isfinite(scored[1]["loss"])


@pytest.mark.parametrize("kind", KINDS)
def test_data_that_is_refused_at_init_fails_a_task_that_begins_with_a_seed_in_the_same_words(kind: type[Any]) -> None:
    weights, refused = made(kind, lambda: (X, Y)).init(), made(kind, TABLE["a generator"][0])
    with pytest.raises(ConfigError) as at_init:
        refused.init()
    with pytest.raises(ConfigError) as in_task:
        trained(refused, weights)
    assert in_task.value.reason == at_init.value.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", ["lists of rows", "a column of labels", "objects that are numbers"])
def test_the_form_of_the_data_does_not_change_what_is_learnt(kind: type[Any], other: str) -> None:
    plain = made(kind, lambda: (X, Y))
    weights = plain.init()
    expected, _, _ = trained(plain, weights, epochs=2)
    found, _, _ = trained(made(kind, TABLE[other][0]), weights, epochs=2)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)


def test_a_sparse_matrix_is_learnt_as_the_dense_one() -> None:
    plain = made(Network, lambda: (X.astype(float), Y))
    weights = plain.init()
    expected, _, _ = trained(plain, weights, epochs=2)
    found, _, _ = trained(made(Network, lambda: (sparse.coo_matrix(X.astype(float)), Y)), weights, epochs=2)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)


def test_a_sparse_matrix_without_a_class_is_fitted() -> None:
    trainer = made(Warm, lambda: (sparse.csr_matrix(X), np.zeros(10, int)))
    assert trained(trainer, trainer.init())[1] == 10


def test_a_pipeline_is_learnt_as_its_arrays() -> None:
    plain = made(Keras, lambda: (X, Y))
    weights = plain.init()
    expected, _, metrics = trained(plain, weights, epochs=2)
    for name in ("a pipeline", "a batched pipeline"):
        found, _, same = trained(made(Keras, TABLE[name][0]), weights, epochs=2)
        assert same == metrics
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize("kind", KINDS)
def test_data_frames_are_numbers_by_column(kind: type[Any]) -> None:
    frame = pandas.DataFrame(X.astype(float), columns=["a", "b", "c"])
    frame["b"] = pandas.array(range(10), dtype="Int64")
    frame["c"] = frame["c"] > 0
    plain = made(kind, lambda: (frame.astype(float).to_numpy(), Y))
    weights = plain.init()
    expected, _, _ = trained(plain, weights)
    found, examples, _ = trained(made(kind, lambda: (frame, pandas.Series(Y))), weights)
    assert examples == 10
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)
    with_text = frame.assign(city=["x", "y"] * 5, kind=pandas.Categorical(["u", "v"] * 5))
    with pytest.raises(ConfigError, match=r"text in column city, kind as .*: make it numbers"):
        made(kind, lambda: (with_text, Y)).init()


class Two(Torch):
    def model(self) -> nn.Module:
        return nn.Bilinear(2, 3, 1)


@pytest.mark.parametrize("form", [tuple, dict])
def test_a_torch_batch_has_the_form_of_the_data(form: type) -> None:
    left = np.arange(20.0).reshape(10, 2)
    whole: Any = ((left, X), Y) if form is tuple else {"in": {"left": left, "right": X}, "y": Y}

    def loss(self: Any, model: nn.Module, batch: Any) -> Tensor:
        (one, two), y = batch if form is tuple else (tuple(batch["in"].values()), batch["y"])
        assert (one.dtype, two.dtype, y.dtype) == (torch.float32, torch.float32, torch.int64)
        assert torch.equal(one[:, 1], one[:, 0] + 1)
        return functional.mse_loss(model(one, two).flatten(), y.float())

    trainer = type("Formed", (Two,), {"found": staticmethod(lambda: whole), "loss": loss})(CLIENT)
    weights = trainer.init()
    assert trained(trainer, weights)[1] == 10
    assert trainer.validate(weights, Task(client=CLIENT))[0] == 10


@pytest.mark.parametrize("form", [tuple, dict])
def test_a_keras_model_has_several_inputs(form: type) -> None:
    class Inputs(Keras):
        def model(self) -> Any:
            one, two = keras.Input((2,), name="left"), keras.Input((3,), name="right")
            model = keras.Model([one, two], layers.Dense(1)(layers.Concatenate()([one, two])))
            model.compile("sgd", "mse")
            return model

    left = np.zeros((10, 2), np.float32)
    x: Any = (left, X) if form is tuple else {"left": left, "right": X}
    whole: Any
    for whole in ((x, Y), (x, Y, np.ones(10))):
        trainer = type("Several", (Inputs,), {"found": staticmethod(partial(tuple, whole))})(CLIENT)
        weights = trainer.init()
        assert trained(trainer, weights)[1] == 10
        _, metrics = trainer.validate(weights, Task(client=CLIENT))
        found = X @ weights["0000/kernel"][2:] + weights["0001/bias"]
        assert metrics["loss"] == pytest.approx(float(np.mean((found[:, 0] - Y) ** 2)), rel=1e-5)


def test_weights_of_examples_count() -> None:
    half = made(Keras, lambda: (X, Y, np.r_[np.ones(5), np.zeros(5)]))
    weights = half.init()
    first = made(Keras, lambda: (X[:5], Y[:5])).validate(weights, Task(client=CLIENT))[1]["loss"]
    assert half.validate(weights, Task(client=CLIENT))[1]["loss"] * 2 == pytest.approx(first, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_first_weights_need_no_data_and_a_task_reports_what_data_raised(kind: type[Any]) -> None:
    def missing() -> Any:
        raise FileNotFoundError("/data/site1.csv")

    trainer = made(kind, missing)
    weights = trainer.init()
    with pytest.raises(FileNotFoundError, match="site1"):
        trained(trainer, weights)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_part_of_too_little_data_is_refused_at_init(kind: type[Any]) -> None:
    few = Client("c", count=11)
    with pytest.raises(ConfigError, match="10 examples can't be split into 11 parts: use fewer clients or more data"):
        made(kind, lambda: few.part(Y)).init()
    assert made(kind, lambda: (X[Client("c", count=10).part(Y)], Y[:1])).init()
