import numpy as np
import pytest

from fedmq import tensors
from fedmq.errors import InvalidUpdate
from fedmq.tensors import TensorRole, TensorSpec, Weights, apply, check, delta, spec_of

MODEL: Weights = {
    "a": np.array([1.0, 2.0, 3.0], np.float32),
    "b": np.array([[1.0]], np.float64),
    "n": np.array([5], np.int32),
}


def array(*values: float, dtype: str = "f4") -> np.ndarray:
    return np.array(values, dtype)


def test_roles_default_by_dtype() -> None:
    model = {
        "f": array(1),
        "h": array(1, dtype="f2"),
        "i": array(1, dtype="u1"),
        "m": array(1, dtype="?"),
    }
    roles = {name: spec.role for name, spec in spec_of(model).items()}
    assert roles == {
        "f": TensorRole.TRAINABLE,
        "h": TensorRole.TRAINABLE,
        "i": TensorRole.COUNTER,
        "m": TensorRole.CONSTANT,
    }


def test_roles_come_from_the_metadata() -> None:
    spec = spec_of(MODEL, {"roles": {"a": "statistic", "n": "constant"}, "other": 1})
    assert spec["a"] == TensorSpec((3,), np.dtype("f4"), TensorRole.STATISTIC)
    assert spec["b"].role is TensorRole.TRAINABLE
    assert spec["n"].role is TensorRole.CONSTANT


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        ({"a": "counter"}, "'a' of dtype float32 can be trainable or statistic or constant"),
        ({"n": "trainable"}, "'n' of dtype int32 can be counter or constant"),
        ({"a": "weights"}, "not 'weights'"),
        ({"z": "trainable"}, "does not have: z"),
        (["a"], "not a map"),
    ],
)
def test_a_role_that_does_not_fit_is_refused(roles: object, reason: str) -> None:
    with pytest.raises(InvalidUpdate, match=reason):
        spec_of(MODEL, {"roles": roles})


def test_the_spec_of_a_blob_is_that_of_its_weights() -> None:
    source = tensors.Source(tensors.encode(MODEL, {"roles": {"a": "statistic"}}))
    assert spec_of(source.tensors, source.meta) == spec_of(MODEL, {"roles": {"a": "statistic"}})


def test_wrong_names_are_listed_up_to_three() -> None:
    update = {name: array(1) for name in ("a", "p", "q", "r", "s")}
    with pytest.raises(InvalidUpdate) as refused:
        check(update, spec_of(MODEL))
    assert refused.value.reason == ("the update lacks 'b', 'n' and has the unknown 'p', 'q', 'r' and 1 more")


def test_a_name_too_many_is_refused() -> None:
    with pytest.raises(InvalidUpdate, match=r"^the update has the unknown 'z'$"):
        check(delta(MODEL, MODEL) | {"z": array(1)}, spec_of(MODEL))


def test_wrong_shapes_and_dtypes_are_listed() -> None:
    update = {"a": array(1, 2), "b": array(1, dtype="f4").reshape(1, 1), "n": array(1, dtype="i8")}
    with pytest.raises(InvalidUpdate) as refused:
        check(update, spec_of(MODEL))
    assert "'a' has shape [2] and not [3]" in refused.value.reason
    assert "'b' is float32 and not float64" in refused.value.reason
    assert "'n'" not in refused.value.reason


def test_float_deltas_are_differences() -> None:
    change = delta({**MODEL, "a": array(1.5, 2, 2)}, MODEL)
    assert change["a"].tolist() == [0.5, 0.0, -1.0]
    assert change["a"].dtype == np.float32
    assert change["b"].dtype == np.float64


def test_the_delta_of_float16_is_float32_and_not_rounded_to_float16() -> None:
    new, old = array(2049 - 1, dtype="f2"), array(0.0002, dtype="f2")
    change = delta({"h": new}, {"h": old})["h"]
    assert change.dtype == np.float32
    assert change[0] == np.float32(new[0]) - np.float32(old[0])


@pytest.mark.parametrize(
    ("new", "old", "dtype", "expected"),
    [
        (3, 250, "u1", -247),
        (-128, 127, "i1", -255),
        (2**64 - 1, 2**64 - 5, "u8", 4),
        (2**63, 2**63 - 2, "u8", 2),
        (-(2**63), -(2**63) + 1, "i8", -1),
        (False, True, "?", -1),
    ],
)
def test_integer_deltas_are_exact(new: int, old: int, dtype: str, expected: int) -> None:
    change = delta({"n": array(new, dtype=dtype)}, {"n": array(old, dtype=dtype)})["n"]
    assert change.dtype == np.int64
    assert change.tolist() == [expected]
    back = apply({"n": array(old, dtype=dtype)}, {"n": change}) if dtype != "?" else None
    assert back is None or back["n"].tolist() == [new]


@pytest.mark.parametrize(("new", "old", "dtype"), [(2**63, 0, "u8"), (2**62, -(2**62), "i8")])
def test_an_integer_that_changes_too_much_is_refused(new: int, old: int, dtype: str) -> None:
    with pytest.raises(InvalidUpdate, match="'n' changed by 2\\^53"):
        delta({"n": array(new, dtype=dtype)}, {"n": array(old, dtype=dtype)})


def test_a_trained_model_of_other_names_shapes_or_dtypes_is_refused() -> None:
    with pytest.raises(InvalidUpdate, match="the trained model lacks 'n'"):
        delta({name: MODEL[name] for name in ("a", "b")}, MODEL)
    with pytest.raises(InvalidUpdate, match=r"was returned as float32 \[2\] and was float32 \[3\]"):
        delta({**MODEL, "a": array(1, 2)}, MODEL)
    with pytest.raises(InvalidUpdate, match="was returned as float64"):
        delta({**MODEL, "a": MODEL["a"].astype("f8")}, MODEL)


def test_apply_rounds_once_from_float64() -> None:
    # Just above the midpoint of 1 and the next float32. Rounded to float32 first, the step would
    # fall on the midpoint and the sum go down, to even.
    step = {"a": np.array([2.0**-24 + 2.0**-50])}
    assert apply({"a": array(1.0)}, step)["a"].tolist() == [1 + 2.0**-23]


def test_apply_has_no_negative_zero() -> None:
    new = apply({"a": array(-0.0, 1.0, -1e-45)}, {"a": np.array([-0.0, -1.0, 1e-45])})["a"]
    assert not np.signbit(new).any()


def test_a_float16_model_becomes_float32_and_float64_stays() -> None:
    model = {"h": array(1, dtype="f2"), "d": array(1, dtype="f8")}
    new = apply(model, {"h": np.array([0.1]), "d": np.array([0.1])})
    assert new["h"].dtype == np.float32
    assert new["d"].dtype == np.float64
    assert apply(model, {})["h"].dtype == np.float32


def test_integers_step_half_to_even() -> None:
    new = apply({"n": np.array([5, 5, 5], np.int32)}, {"n": np.array([0.5, 1.5, -0.75])})["n"]
    assert new.dtype == np.int32
    assert new.tolist() == [5, 7, 4]


def test_a_tensor_without_a_step_is_kept() -> None:
    new = apply(MODEL, {"a": np.zeros(3)})
    assert {name: value.tolist() for name, value in new.items()} == {
        name: value.tolist() for name, value in MODEL.items()
    }


def test_a_model_that_overflows_is_refused() -> None:
    with pytest.raises(InvalidUpdate, match="'a' of the new model is not finite"):
        apply({"a": array(3e38)}, {"a": np.array([3e38])})


def test_scalars_keep_their_shape() -> None:
    model = {"s": np.array(1.0, np.float32), "n": np.array(3)}
    change = delta({"s": np.array(2.0, np.float32), "n": np.array(5)}, model)
    new = apply(model, change)
    assert new["s"].shape == new["n"].shape == ()
    assert [float(new["s"]), int(new["n"])] == [2.0, 5]
