"""Model files of other tools, read and written: nothing is ever unpickled.

.safetensors   named tensors; what FedMQ itself keeps
.npz           numpy: arrays `0` … `n-1` or `arr_0` … (a list in integer order), or named arrays
.keras, .h5    Keras, where it is installed: names as KerasTrainer gives them
.pt, .pth      a PyTorch state dict, where torch is installed, loaded with weights only
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmq import tensorblob
from fedmq.errors import ConfigError, InvalidUpdate
from fedmq_client.trainer import Weights

WRITES = ("safetensors", "npz", "keras", "torch")
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model read from a file: its tensors, and FedMQ's own metadata (roles)."""

    weights: Weights
    meta: Mapping[str, Any] = field(default_factory=dict)

    def blob(self) -> bytes:
        """As safetensors."""
        return tensorblob.encode(self.weights, self.meta)


def read(path: Path) -> ModelFile:
    """Raises ConfigError that says what was found where a model was wanted, or which extra reads it."""
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise ConfigError(f"{path} is empty")
    if head.startswith(b"\x89HDF"):
        return _keras(path)
    if head.startswith(b"PK\x03\x04"):
        return _zipped(path)
    if head.startswith(_PICKLES):
        if path.suffix in (".pt", ".pth"):
            return _torch(path)
        raise ConfigError(f"{path} is a pickle, which may run code and is never opened: save it as safetensors or .npz")
    if head.startswith(b"version https://git-lfs"):
        raise ConfigError(f"{path} is a Git LFS pointer, not the file: `git lfs pull` fetches it")
    if head.startswith(b"\x93NUMPY"):
        raise ConfigError(f"{path} is one array; a model is named arrays: numpy.savez writes them")
    try:
        weights, meta = tensorblob.decode(path.read_bytes())
    except InvalidUpdate as error:
        raise ConfigError(
            f"{path} is no model: neither .npz, Keras, PyTorch nor safetensors ({error.reason})"
        ) from error
    return ModelFile(weights, meta)


def write(weights: Weights, path: Path, form: str, package: Path | None = None) -> None:
    """Writes weights as one of `WRITES`. Keras needs the package whose trainer has `model()`, to know the layers.

    Raises ConfigError for an unknown form.
    """
    match form:
        case "safetensors":
            path.write_bytes(tensorblob.encode(weights))
        case "npz":
            _write_npz(weights, path)
        case "torch":
            import torch

            torch.save({name: torch.from_numpy(array.copy()) for name, array in weights.items()}, path)
        case "keras":
            _write_keras(weights, path, package)
        case _:
            raise ConfigError(f"unknown format {form!r}: there are {', '.join(WRITES)}")


def _write_npz(weights: Weights, path: Path) -> None:
    """As numpy.savez, for which some names would be its own arguments."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in weights.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _zipped(path: Path) -> ModelFile:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ConfigError(f"{path} is a damaged archive: {error}") from error
    if names and all(name.endswith(".npy") for name in names):
        return _npz(path)
    if "config.json" in names:
        return _keras(path)
    if any(name.endswith("data.pkl") for name in names):
        return _torch(path)
    raise ConfigError(f"{path} is a zip archive of {', '.join(names[:3]) or 'nothing'}, not a model")


def _npz(path: Path) -> ModelFile:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} holds what is no plain array, or is damaged: {error}") from error
    return ModelFile(_checked(path, _numbered(arrays)))


def _numbered(arrays: dict[str, NDArray[Any]]) -> Weights:
    """`arr_3` as `3`: what numpy calls arrays that were given none but a place."""
    if arrays and all(name.startswith("arr_") and name[4:].isdigit() for name in arrays):
        return {name[4:]: array for name, array in arrays.items()}
    return arrays


def _checked(path: Path, weights: Weights) -> Weights:
    if not weights:
        raise ConfigError(f"{path} holds no arrays")
    try:
        tensorblob.encode(weights)
    except InvalidUpdate as error:
        raise ConfigError(f"{path}: {error.reason}") from error
    return weights


def _keras(path: Path) -> ModelFile:
    import keras

    from fedmq_client.frameworks import warm_keras  # first: it quiets TensorFlow

    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise ConfigError(f"{path} is no Keras model that this Keras can load: {error}") from error
    roles = warm_keras.roles_of(model)
    return ModelFile(_checked(path, warm_keras.weights_of(model)), {"roles": roles})


def _torch(path: Path) -> ModelFile:
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a dozen kinds, down to pickle's own
        raise ConfigError(f"{path} is no state dict: save model.state_dict(), not the model ({error})") from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ConfigError(f"{path} is no state dict: save model.state_dict()")
    return ModelFile(_checked(path, {str(name): tensor.numpy() for name, tensor in found.items()}))


def _write_keras(weights: Weights, path: Path, package: Path | None) -> None:
    if package is None:
        raise ConfigError("Keras' format holds the layers too: name the package whose trainer has model()")
    from fedmq_client.frameworks.warm_keras import names
    from fedmq_client.package import build, load
    from fedmq_client.trainer import Client

    trainer: Any = build(load(package), Client("export"))
    if not callable(getattr(trainer, "model", None)):
        raise ConfigError(f"the trainer of {package} has no model(): another format needs none")
    model = trainer.model()
    found = names(model)
    if set(found) != set(weights):
        raise ConfigError(f"the model of {package} has other tensors than this one: it is another package's")
    model.set_weights([weights[name] for name in found])
    model.save(path)
