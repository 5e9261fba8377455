"""Model files of other tools: what is read, what is written, and what is reported of a file that is no model."""

import gzip
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from safetensors.numpy import load_file, save_file
from torch import nn

from fedmq import tensors
from fedmq.errors import ConfigError
from fedmq.model_files import formats, warm_keras
from fedmq_client.frameworks.torch import roles_of, weights_of
from fedmq_client.job.load_trainer import keras_model
from fedmq_client.packages.package import load
from support.packages import write_package

# Keras 3 on numpy 2, when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PACKAGE = """
import keras
from keras import layers
from fedmq_client import KerasTrainer

class Trainer(KerasTrainer):
    def model(self):
        model = keras.Sequential([layers.Input((4,)), layers.Dense(3), layers.BatchNormalization()])
        model.compile("sgd", "mse")
        return model

class Numpy:
    def __init__(self, client): ...
    def train(self, weights, task): ...
"""


def _keras_model() -> Any:
    model = keras.Sequential([layers.Input((4,)), layers.Dense(3), layers.BatchNormalization()])
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def _module() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_npz_of_numbers_of_numpys_own_names_and_of_names(tmp_path: Path) -> None:
    arrays = [np.full(number + 1, number, np.float64) for number in range(11)]
    np.savez(tmp_path / "a.npz", *arrays)
    numbered: dict[str, Any] = {str(number): array for number, array in enumerate(arrays)}
    np.savez_compressed(tmp_path / "b.npz", **numbered)
    for name in ("a.npz", "b.npz"):
        found = formats.read(tmp_path / name)
        assert {name: len(array) for name, array in found.weights.items()} == {str(n): n + 1 for n in range(11)}
        assert found.meta == {}
    np.savez(tmp_path / "c.npz", kernel=arrays[1], bias=arrays[2])
    assert set(formats.read(tmp_path / "c.npz").weights) == {"kernel", "bias"}


def test_safetensors_of_others_and_of_ours(tmp_path: Path) -> None:
    save_file({"w": np.ones(2, np.float32)}, tmp_path / "theirs")
    assert formats.read(tmp_path / "theirs").meta == {}
    meta = {"roles": {"w": "statistic"}}
    formats.write({"w": np.ones(2)}, tmp_path / "ours", "safetensors", meta=meta)
    assert formats.read(tmp_path / "ours").meta == meta
    assert formats.read(tmp_path / "ours").blob() == (tmp_path / "ours").read_bytes()
    np.testing.assert_array_equal(load_file(tmp_path / "ours")["w"], [1, 1])


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.ones(2, np.float16))
    assert formats.read(tmp_path / "a.npz").weights["0"].dtype == np.float32
    torch.save({"w": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "a.pt")
    assert formats.read(tmp_path / "a.pt").weights["0000/w"].dtype == np.float32


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_keras_file_has_the_names_and_roles_of_its_trainer_and_its_network(tmp_path: Path, name: str) -> None:
    model = _keras_model()
    with warm_keras.quiet():
        model.save(tmp_path / name)
    # FEDn's seeds are named by an id, without a suffix.
    (tmp_path / name).rename(tmp_path / "879fa112")
    seed = formats.read(tmp_path / "879fa112")
    assert seed.meta["roles"] == warm_keras.roles_of(model)
    for name_, array in warm_keras.weights_of(model).items():
        np.testing.assert_array_equal(seed.weights[name_], array)
    changed = {name: array + 1 for name, array in seed.weights.items()}
    formats.write(changed, tmp_path / "out", "keras", meta=seed.meta)
    (tmp_path / "out").rename(tmp_path / "out.keras")
    again = keras.models.load_model(tmp_path / "out.keras")
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0] + 1)


def test_a_state_dict_has_the_names_of_its_trainer(tmp_path: Path) -> None:
    module = _module()
    module(torch.ones(4, 2))
    for name, legacy in (("a.pt", False), ("b.pth", True)):
        torch.save(module.state_dict(), tmp_path / name, _use_new_zipfile_serialization=not legacy)
        seed = formats.read(tmp_path / name)
        assert tensors.encode(seed.weights) == tensors.encode(weights_of(module))
        assert {key: role.value for key, role in _roles(seed).items()} == roles_of(module)
    torch.save({"epoch": 3, "state_dict": module.state_dict()}, tmp_path / "c.pt")
    assert set(formats.read(tmp_path / "c.pt").weights) == set(weights_of(module))


def _roles(seed: formats.ModelFile) -> dict[str, tensors.TensorRole]:
    return {name: spec.role for name, spec in tensors.spec_of(seed.weights, seed.meta).items()}


def test_what_is_written_as_a_state_dict_loads_into_the_module(tmp_path: Path) -> None:
    weights = {name: array + 1 for name, array in weights_of(_module()).items()}
    formats.write(weights, tmp_path / "a.pt", "torch")
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    module = _module()
    module.load_state_dict(state)
    assert list(state) == list(module.state_dict())
    assert tensors.encode(weights_of(module)) == tensors.encode(weights)


@pytest.mark.parametrize("name", ["{:04}/w", "{}"])
def test_what_is_written_as_npz_has_the_names_and_the_order_of_the_tensors(tmp_path: Path, name: str) -> None:
    weights = {name.format(number): np.full(2, number) for number in range(12)}
    formats.write(dict(reversed(weights.items())), tmp_path / "a.npz", "npz")
    with np.load(tmp_path / "a.npz") as archive:
        assert archive.files == list(weights)
        assert [int(archive[each][0]) for each in archive.files] == list(range(12))
    assert list(formats.read(tmp_path / "a.npz").weights) == list(weights)
    formats.write({"file": np.ones(1), "b": np.zeros(1)}, tmp_path / "b.npz", "npz")
    with np.load(tmp_path / "b.npz") as archive:
        assert set(archive.files) == {"file", "b"}


def test_the_packages_trainer_knows_the_network(tmp_path: Path) -> None:
    write_package(tmp_path, PACKAGE)
    weights = warm_keras.weights_of(_keras_model())
    as_list = {str(number): array for number, array in enumerate(weights.values())}

    def network() -> Any:
        return keras_model(load(tmp_path))

    for given in (weights, as_list):
        formats.write(given, tmp_path / "out.keras", "keras", network=network)
        np.testing.assert_array_equal(keras.models.load_model(tmp_path / "out.keras").get_weights()[0], as_list["0"])
    with pytest.raises(ConfigError, match="other tensors than the network"):
        formats.write({"0": np.ones(1)}, tmp_path / "out.keras", "keras", network=network)
    with pytest.raises(ConfigError, match=r"name the package whose trainer has model.*--package"):
        formats.write(weights, tmp_path / "out.keras", "keras")
    (tmp_path / "fedn.yaml").write_text("trainer: trainer.py:Numpy")
    with pytest.raises(ConfigError, match=r"has no model\(\)"):
        formats.write(weights, tmp_path / "out.keras", "keras", network=network)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("before")
    with pytest.raises(ConfigError, match="unknown format 'onnx': there are safetensors, npz, keras, torch"):
        formats.write({"w": np.ones(1)}, path, "onnx")
    with pytest.raises(ConfigError, match="a state dict would mix them up"):
        formats.write({"0000/w": np.ones(1), "0001/w": np.ones(1)}, path, "torch")
    with pytest.raises(ValueError, match=r"[Oo]bject arrays"):
        formats.write({"w": np.array([{}])}, path, "npz")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a"]


class Evil:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("/tmp/fedmq-a-pickle-ran",))


def _zip(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _truncated() -> bytes:
    return tensors.encode({"w": np.ones(9)})[:-8]


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a", b"", "is empty"),
        ("a", b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer, not the file"),
        ("a", b"\x93NUMPY\x01\x00", "is one array .*; a model is named arrays"),
        ("a", b"<!DOCTYPE html>", "is a page of HTML or XML"),
        ("a", gzip.compress(b"x", mtime=0), "is a gzip archive: unpack it first"),
        ("a", b"\x80\x04\x95abc", "is a pickle, which may run code and is never opened"),
        ("a", json.dumps({"a": 1}).encode(), "is JSON$"),
        ("a", b"\x89PNG\r\n\x1a\n", "is a PNG image"),
        ("a", b"rounds = 3\n", "is text$"),
        ("a", b"\xff\xfe\x00", "is no model: neither .npz, Keras, PyTorch nor safetensors"),
        ("a", _truncated(), "is no model: .*the blob is truncated"),
        ("a", _zip(readme=b"x"), "is a zip archive of readme, not a model"),
        ("a", _zip(), "is a zip archive of nothing"),
        ("a", b"PK\x03\x04damaged", "is a damaged archive"),
        ("a.npz", _npz(a=np.array([{}], dtype=object)), "holds something other than plain arrays"),
        ("a.npz", _npz(a=np.ones(1, np.complex64)), "tensor 'a' is complex64: save it as one of float64"),
        ("a.npz", _npz(a=np.array([1, np.nan])), "tensor 'a' holds NaN or infinity"),
        ("a.npz", _npz(**{"0": np.ones(1), "2": np.ones(1)}), "2 numbered arrays, and none is called 1"),
        ("a.npz", _npz(**{"1": np.ones(1), "2": np.ones(1)}), "2 numbered arrays, and none is called 0"),
        ("a.h5", b"\x89HDF\r\n\x1a\nrubbish", "is no Keras model that this Keras can load"),
        ("a.pt", _saved(Evil()), "holds Python objects beside tensors, which may run code"),
        ("a.pt", _saved([torch.ones(1)]), "is no state dict but of type list: save model.state_dict"),
        ("a.pt", _saved({"epoch": 3}), "is no state dict: 'epoch' is no tensor; save model.state_dict"),
        ("a.pt", _saved({}), "holds no arrays"),
    ],
)
def test_what_is_no_model_is_called_what_it_is(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=words):
        formats.read(tmp_path / name)
    assert not Path("/tmp/fedmq-a-pickle-ran").exists()


@pytest.mark.parametrize("first", [b"<", b"{"])
def test_a_safetensors_file_that_begins_like_text_is_read(tmp_path: Path, first: bytes) -> None:
    header = b'{"w":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}}'.ljust(first[0])
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header + np.ones(2).tobytes())
    assert formats.read(tmp_path / "a").weights["w"].tolist() == [1, 1]


def test_no_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*: it is a folder"):
        formats.read(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no file .*missing$"):
        formats.read(tmp_path / "missing")


def test_a_keras_file_can_not_bring_code(tmp_path: Path) -> None:
    model = keras.Sequential([layers.Input((4,)), layers.Lambda(lambda x: x)])
    for name in ("a.keras", "a.h5"):
        with warm_keras.quiet():
            model.save(tmp_path / name)
        with pytest.raises(ConfigError, match=r"no Keras model that this Keras can load.*Lambda"):
            formats.read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "form", "expected"),
    [
        ("m.npz", None, "npz"),
        ("m.safetensors", None, "safetensors"),
        ("m.keras", None, "keras"),
        ("m.PT", None, "torch"),
        ("m.pth", None, "torch"),
        ("m", None, "safetensors"),
        ("m", "npz", "npz"),
        ("m.bin", "torch", "torch"),
        (".", None, "safetensors"),
    ],
)
def test_the_ending_of_a_file_is_its_format(tmp_path: Path, name: str, form: str | None, expected: str) -> None:
    assert formats.form_of(tmp_path / name, form) == expected


def test_an_ending_that_contradicts_the_format_or_is_unknown_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"m\.npz ends as npz does, and the format is torch: name it .*m\.pt, or give the"
    ):
        formats.write({"w": np.ones(1)}, tmp_path / "m.npz", "torch")
    with pytest.raises(ConfigError, match=r"m\.onnx: no model is written as \.onnx: end it in \.safetensors, "):
        formats.form_of(tmp_path / "m.onnx")
    formats.write({"w": np.ones(1)}, tmp_path / "m.pt", "torch")
    assert formats.form_of(tmp_path / "m.npz", "npz") == "npz"
