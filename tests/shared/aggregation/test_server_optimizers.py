import math
from typing import Any

import numpy as np
import pytest

from fedmq.aggregation import (
    SERVER_OPTIMIZERS,
    Accumulator,
    in_plan_order,
    initial_exponents,
    next_model,
    replay,
    server_optimizer,
)
from fedmq.errors import ConfigError
from fedmq.tensors import delta, spec_of
from fedmq.tensors.tensorblob import Source, Weights, encode

MODEL: Weights = {"w": np.array([1.0, 2.0, 3.0], np.float32)}
DELTA = {"w": np.array([0.5, 0.0, -1.0])}


def two_rounds(name: str, **parameters: float) -> list[list[float]]:
    optimizer = server_optimizer(name)
    configured = optimizer.configure(parameters)
    model, state = dict(MODEL), optimizer.init(MODEL)
    models = []
    for _ in range(2):
        model, state = optimizer.apply(model, DELTA, state, configured)
        models.append(model["w"].tolist())
    return models


def test_fedavg_adds_the_mean_delta() -> None:
    assert two_rounds("fedavg") == [[1.5, 2.0, 2.0], [2.0, 2.0, 1.0]]


def test_fedavg_goes_as_far_as_its_learning_rate() -> None:
    assert two_rounds("fedavg", server_learning_rate=0.5)[0] == [1.25, 2.0, 2.5]


def test_fedavgm_keeps_part_of_the_last_step() -> None:
    assert two_rounds("fedavgm", momentum=0.5) == [[1.5, 2.0, 2.0], [2.25, 2.0, 0.5]]


def test_fedadagrad_divides_by_the_root_of_all_squares() -> None:
    first, second = two_rounds("fedadagrad", server_learning_rate=1, tau=0.5)
    # v starts at 0.25: after one round 0.5, 0.25, 1.25; after two 0.75, 0.25, 2.25.
    np.testing.assert_allclose(first, [1 + 0.5 / (0.5**0.5 + 0.5), 2, 3 - 1 / (1.25**0.5 + 0.5)], rtol=1e-7)
    np.testing.assert_allclose(second, [first[0] + 0.5 / (0.75**0.5 + 0.5), 2, first[2] - 1 / 2], rtol=1e-7)


def test_fedadam_averages_deltas_and_squares() -> None:
    first, second = two_rounds("fedadam", server_learning_rate=1, beta1=0.5, beta2=0.5, tau=0.5)
    # v: 0.25, 0.25 / 2, 0.625; then 0.25, 0.0625, 0.8125. m: half, then three quarters of delta.
    np.testing.assert_allclose(first, [1 + 0.25, 2, 3 - 0.5 / (0.625**0.5 + 0.5)], rtol=1e-7)
    np.testing.assert_allclose(second, [first[0] + 0.375, 2, first[2] - 0.75 / (0.8125**0.5 + 0.5)], rtol=1e-7)


def test_fedyogi_moves_the_squares_by_a_bounded_amount() -> None:
    first, second = two_rounds("fedyogi", server_learning_rate=1, beta1=0, beta2=0.5, tau=0.5)
    # v: 0.25 stays (its sign term is 0), then v + delta^2 / 2 where v < delta^2: 0.75, then 1.25.
    np.testing.assert_allclose(first, [1 + 0.5, 2, 3 - 1 / (0.75**0.5 + 0.5)], rtol=1e-7)
    np.testing.assert_allclose(second, [2.0, 2, first[2] - 1 / (1.25**0.5 + 0.5)], rtol=1e-7)


@pytest.mark.parametrize("name", SERVER_OPTIMIZERS)
def test_arguments_are_left_as_they_are_and_state_is_float64(name: str) -> None:
    optimizer = server_optimizer(name)
    parameters = optimizer.configure({})
    model: Weights = {"w": np.array([1.0, 2.0], np.float32), "s": np.array(3.0, np.float32)}
    change = {"w": np.array([0.1, -0.1]), "s": np.array(0.5)}
    _, state = optimizer.apply(model, change, optimizer.init(model), parameters)
    before = encode(state)
    new, after = optimizer.apply(model, change, state, parameters)
    assert encode(state) == before
    assert model["w"].tolist() == [1.0, 2.0]
    assert change["w"].tolist() == [0.1, -0.1]
    assert all(array.dtype == np.float64 for array in after.values())
    assert {key: array.shape for key, array in new.items()} == {"w": (2,), "s": ()}


@pytest.mark.parametrize("name", SERVER_OPTIMIZERS)
def test_no_delta_leaves_the_model_where_it_is(name: str) -> None:
    optimizer = server_optimizer(name)
    nothing = {"w": np.zeros(3)}
    model, _ = optimizer.apply(MODEL, nothing, optimizer.init(MODEL), optimizer.configure({}))
    assert model["w"].tolist() == MODEL["w"].tolist()


def test_an_unknown_optimizer_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="no server optimizer 'fedadan'; did you mean 'fedadam'"):
        server_optimizer("fedadan")
    with pytest.raises(ConfigError, match="known are fedavg, fedavgm"):
        server_optimizer("sgd")


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("fedadam", {"beta_1": 0.9}, "no parameter 'beta_1'; did you mean 'beta1'"),
        ("fedavg", {"zeta": 1}, "known are server_learning_rate"),
        ("fedavgm", {"beta1": 0.9}, "fedavgm has no parameter 'beta1'"),
        ("fedadagrad", {"beta2": 0.9}, "fedadagrad has no parameter 'beta2'"),
        ("fedadam", {"tau": 0}, "must be above 0"),
        ("fedadam", {"server_learning_rate": -1}, "must be above 0"),
        ("fedadam", {"beta2": 1}, "at least 0 and below 1"),
        ("fedavgm", {"momentum": -0.1}, "at least 0 and below 1"),
        ("fedadam", {"tau": "small"}, "'small' and not a number"),
        ("fedadam", {"tau": True}, "True and not a number"),
        ("fedadam", {"tau": math.nan}, "nan and not a number"),
    ],
)
def test_parameters_are_checked(name: str, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        server_optimizer(name).configure(given)


NETWORK: Weights = {
    "kernel": np.array([[0.3, -0.2]], np.float32),
    "gamma": np.array([1.0, 1.0], np.float32),
    "moving_mean": np.array([0.0, 0.0], np.float32),
    "moving_variance": np.array([1.0, 1.0], np.float32),
    "batches": np.array(0, np.int64),
    "embedding_mask": np.array([1.0], np.float32),
}
NETWORK_META = {
    "roles": {
        "moving_mean": "statistic",
        "moving_variance": "statistic",
        "embedding_mask": "constant",
    }
}


def trained(model: Weights, rng: np.random.Generator) -> Weights:
    """What batch-norm statistics do: they drift to small variances, on average down."""
    new = {name: array.copy() for name, array in model.items()}
    new["kernel"] += rng.standard_normal((1, 2)).astype(np.float32)
    new["gamma"] += np.float32(0.1) * rng.standard_normal(2).astype(np.float32)
    new["moving_mean"] += rng.standard_normal(2).astype(np.float32)
    new["moving_variance"] *= rng.uniform(0.05, 0.9, 2).astype(np.float32)
    new["batches"] += rng.integers(1, 50)
    return new


@pytest.mark.parametrize("name", SERVER_OPTIMIZERS)
def test_a_batch_norm_model_keeps_positive_variances(name: str) -> None:
    rng = np.random.default_rng(23)
    optimizer = server_optimizer(name)
    parameters = optimizer.configure({})
    spec = spec_of(NETWORK, NETWORK_META)
    model, state = dict(NETWORK), None
    for _ in range(20):
        total = Accumulator(spec, initial_exponents(spec, [100]))
        clients = [(trained(model, rng), int(rng.integers(1, 1000))) for _ in range(4)]
        for new, weight in clients:
            total.fold(Source(encode(delta(new, model))), weight)
        weights = [weight for _, weight in clients]
        plain = np.average([new["moving_variance"] for new, _ in clients], 0, weights)
        model, state = next_model(model, spec, total.finish(), optimizer, parameters, state)
        assert (model["moving_variance"] > 0).all()
        np.testing.assert_allclose(model["moving_variance"], plain, rtol=1e-4)
        assert model["batches"].dtype == np.int64
        assert model["embedding_mask"].tolist() == [1.0]
    assert int(model["batches"]) > 20
    assert list(model) == list(NETWORK)
    assert {key.partition("/")[2] for key in state or {}} <= {"kernel", "gamma"}


@pytest.mark.parametrize("name", SERVER_OPTIMIZERS)
def test_a_replayed_round_has_the_bytes_that_were_committed(name: str) -> None:
    rng = np.random.default_rng(29)
    optimizer = server_optimizer(name)
    parameters = optimizer.configure({})
    spec = spec_of(NETWORK, NETWORK_META)
    model: Weights = dict(NETWORK)
    state, plan = None, initial_exponents(spec, [7, 80])
    listed = in_plan_order(plan)
    for _ in range(2):
        ledger = []
        partials = [Accumulator(spec, plan), Accumulator(spec, plan)]
        for index, weight in enumerate((3, 80, 7, 1)):
            update = encode(delta(trained(model, rng), model))
            partials[index % 2].fold(Source(update), weight)
            ledger.append((weight, Source(update)))
        partials[0].fold_partial(Source(partials[1].dump()))
        committed = next_model(model, spec, partials[0].finish(), optimizer, parameters, state)
        replayed = replay(model, NETWORK_META, "mean", listed, reversed(ledger), optimizer, parameters, state)
        assert encode(replayed[0]) == encode(committed[0])
        assert encode(replayed[1]) == encode(committed[1])
        left_out = replay(model, NETWORK_META, "mean", listed, ledger[1:], optimizer, parameters, state)
        assert encode(left_out[0]) != encode(committed[0])
        model, state = committed
