"""Each number type in each format: read as it is, widened, or refused in the same words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers

from fedmq.errors import ConfigError
from fedmq.model_files import formats, warm_keras

# Keras 3 on numpy 2, when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BITS = {"F8_E4M3": 1, "BF16": 2, "C64": 8}
CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
    "bool": "BOOL",
}
PLAIN = tuple(CODES)
SHAPES = ((2, 3), (), (0, 3))
NO_FLOAT = r"tensor 'w' is F8_E4M3: save it as float32$"
COMPLEX = r"tensor 'w' is complex64: save it as one of float64, int64, "


def _safetensors(path: Path, code: str, shape: tuple[int, ...], data: bytes) -> None:
    """Writes a file as the specification says, without our code."""
    head = json.dumps({"w": {"dtype": code, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + data)


def _as_safetensors(path: Path, array: np.ndarray[Any, Any]) -> None:
    _safetensors(path, CODES[array.dtype.name], array.shape, array.tobytes())


def _as_npz(path: Path, array: np.ndarray[Any, Any]) -> None:
    with path.open("wb") as file:
        np.savez(file, w=array)


def _as_torch(path: Path, array: np.ndarray[Any, Any]) -> None:
    torch.save({"w": torch.from_numpy(np.array(array))}, path)


WRITERS: dict[str, Callable[[Path, np.ndarray[Any, Any]], None]] = {
    ".safetensors": _as_safetensors,
    ".npz": _as_npz,
    ".pt": _as_torch,
}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_number_type_that_models_hold_is_read_with_its_values(
    tmp_path: Path, suffix: str, name: str, shape: tuple[int, ...]
) -> None:
    array = np.ones(shape, name)
    WRITERS[suffix](tmp_path / f"a{suffix}", array)
    (found,) = formats.read(tmp_path / f"a{suffix}").weights.values()
    assert found.dtype == (np.float32 if name == "float16" else array.dtype)
    assert found.shape == shape
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_becomes_float32_with_the_same_values(tmp_path: Path, shape: tuple[int, ...]) -> None:
    tensor = torch.full(shape, -1.5, dtype=torch.bfloat16)
    _safetensors(tmp_path / "a.safetensors", "BF16", shape, tensor.view(torch.int16).numpy().tobytes())
    torch.save({"w": tensor}, tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        (found,) = formats.read(tmp_path / name).weights.values()
        assert found.dtype == np.float32
        assert found.shape == shape
        assert (found == -1.5).all()
    formats.read(tmp_path / "a.safetensors").blob()


def test_bfloat16_beside_other_types_moves_none_of_them(tmp_path: Path) -> None:
    head = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]},
        "b": {"dtype": "U16", "shape": [1], "data_offsets": [2, 4]},
        "c": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
    }
    text = json.dumps(head).encode()
    data = b"\x80\x3f" + b"\x80\x3f" + np.float32(3).tobytes()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + data)
    found = formats.read(tmp_path / "a").weights
    assert (found["a"].tolist(), found["b"].tolist(), found["c"].tolist()) == ([1.0], [0x3F80], [3.0])


@pytest.mark.parametrize(("code", "words"), [("F8_E4M3", NO_FLOAT), ("C64", COMPLEX)])
def test_what_no_model_holds_is_refused_in_the_same_words_by_every_reader(
    tmp_path: Path, code: str, words: str
) -> None:
    dtype = {"F8_E4M3": torch.float8_e4m3fn, "C64": torch.complex64}[code]
    _safetensors(tmp_path / "a.safetensors", code, (1,), b"\0" * BITS[code])
    torch.save({"w": torch.zeros(1).to(dtype)}, tmp_path / "a.pt")
    found = ["a.safetensors", "a.pt"]
    if code == "C64":
        np.savez(tmp_path / "a.npz", w=np.zeros(1, np.complex64))
        found.append("a.npz")
    for name in found:
        with pytest.raises(ConfigError, match=words) as refusal:
            formats.read(tmp_path / name)
        assert str(tmp_path / name) in refusal.value.reason, "the file is named too"


def test_numpys_raw_bytes_of_bfloat16_are_called_what_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.zeros(3, "V2"))
    with pytest.raises(
        ConfigError, match=r"'w' is void16, bytes without a number type \(as numpy saves bfloat16\): save it"
    ):
        formats.read(tmp_path / "a.npz")


def test_state_dicts_of_parameters_are_read_and_sparse_and_quantized_ones_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.nn.Parameter(torch.ones(2))}, tmp_path / "a.pt")
    assert formats.read(tmp_path / "a.pt").weights["0000/w"].tolist() == [1, 1]
    torch.save({"w": torch.eye(2).to_sparse()}, tmp_path / "b.pt")
    with pytest.raises(ConfigError, match="tensor 'w' is sparse: save it dense, as float32"):
        formats.read(tmp_path / "b.pt")


def _network(dtype: str = "float32") -> Any:
    return keras.Sequential([layers.Input((4,)), layers.Dense(3, dtype=dtype), layers.BatchNormalization(dtype=dtype)])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_a_keras_model_of_any_float_is_read(tmp_path: Path, suffix: str, dtype: str) -> None:
    model = _network(dtype)
    with warm_keras.quiet():
        model.save(tmp_path / f"a{suffix}")
    if (suffix, dtype) == (".h5", "bfloat16"):
        with pytest.raises(ConfigError, match=r"bfloat16, which Keras can't read from \.h5: save it as \.keras"):
            formats.read(tmp_path / "a.h5")
        return
    found = formats.read(tmp_path / f"a{suffix}").weights
    assert found["0000/kernel"].dtype == (np.float64 if dtype == "float64" else np.float32)
    np.testing.assert_array_equal(found["0000/kernel"], np.asarray(model.get_weights()[0], np.float64))


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_keras_weights_alone_are_read_where_the_network_is_known(tmp_path: Path, suffix: str) -> None:
    model, path = _network(), tmp_path / f"a{suffix}"
    if suffix == ".h5":  # as Keras 2 wrote weights
        import h5py
        from keras.src.legacy.saving import legacy_h5_format

        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    else:
        model.save_weights(path)
    with pytest.raises(
        ConfigError, match=r"holds weights alone, without their network: .*--package DIR, or save"
    ) as refusal:
        formats.read(path)
    assert str(path) in refusal.value.reason and "tmp/tmp" not in refusal.value.reason.replace(str(tmp_path), "")
    found = formats.read(path, _network)
    np.testing.assert_array_equal(found.weights["0000/kernel"], model.get_weights()[0])
    assert found.meta["roles"] == warm_keras.roles_of(model)
    with pytest.raises(ConfigError, match="is no Keras model that this Keras can load"):
        formats.read(path, lambda: keras.Sequential([layers.Input((7,)), layers.Dense(2)]))
