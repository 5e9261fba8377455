"""Reads and writes model files of other tools. Nothing is unpickled.

.safetensors   named tensors; FedMQ's own format
.npz           numpy: arrays `0` … `n-1` or `arr_0` … (a list in integer order), or named arrays
.keras, .h5    Keras, if it is installed: named as by `KerasTrainer`; the network is stored in the metadata
.weights.h5    Keras' weights alone, where the network is known
.pt, .pth      a PyTorch state dict, if torch is installed, loaded with weights only; named as by `TorchTrainer`

The first bytes of a file determine its type, not its suffix. For number types see `dtypes`.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedmq import tensors
from fedmq.errors import ConfigError, InvalidUpdate
from fedmq.model_files import dtypes
from fedmq.model_files.filetypes import PICKLES, found_instead
from fedmq.model_files.naming import in_order, is_list, matched, plain, positional
from fedmq.tensors import Weights
from fedmq.tensors.opaque import named_opaque

SUFFIXES = {"safetensors": ".safetensors", "npz": ".npz", "keras": ".keras", "torch": ".pt"}
"""The suffix of each format that `write` accepts."""
_FORMATS = {suffix: form for form, suffix in SUFFIXES.items()} | {".pth": "torch"}
NETWORK = "keras"
"""The metadata key of the network of a Keras file, as JSON."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model from a file: its tensors, and FedMQ's metadata (roles, network)."""

    weights: Weights
    meta: Mapping[str, Any] = field(default_factory=dict)

    def with_roles(self, roles: Mapping[str, str]) -> ModelFile:
        """Returns the model with these roles beside those of its file. Raises `ConfigError` for one that can't be."""
        known = {**self.meta.get("roles", {}), **roles}
        return _checked("the model", ModelFile(self.weights, {**self.meta, "roles": known})) if roles else self

    def blob(self) -> bytes:
        """Returns the model as safetensors."""
        return tensors.encode(self.weights, self.meta)


def read(path: Path, network: Callable[[], Any] | None = None) -> ModelFile:
    """Reads a model file. Raises `ConfigError` that names what the file is instead, or which extra reads it.

    `network` makes the Keras model of a file that holds weights alone, as `.weights.h5` does.
    """
    if not path.is_file():
        raise ConfigError(f"there is no file {path}" + (": it is a folder" if path.is_dir() else ""))
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise ConfigError(f"{path} is empty")
    if head.startswith(b"\x89HDF"):
        return _checked(path, _keras(path, "h5", network))
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _checked(path, _zipped(path))
    if head.startswith(PICKLES) and path.suffix in (".pt", ".pth"):
        return _checked(path, _torch(path))
    try:
        weights, meta = dtypes.decode(path.read_bytes())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.reason}") from error
    except InvalidUpdate as error:
        found = found_instead(head)
        what = f"it is {found}" if found else f"neither .npz, Keras, PyTorch nor safetensors ({error.reason})"
        raise ConfigError(f"{path} is no model: {what}") from error
    return _checked(path, ModelFile(weights, meta))


def from_arrays(arrays: Mapping[str, Any], roles: Mapping[str, str] | None = None) -> ModelFile:
    """Returns a model of arrays, or of values that numpy converts. Raises `ConfigError` as `read` does."""
    weights = {name: np.asarray(array) for name, array in arrays.items()}
    return _checked("the model", ModelFile(weights, {"roles": dict(roles)} if roles else {}))


def form_of(out: Path, form: str | None = None) -> str:
    """Returns the format to write to `out`: the given one, else that of its ending; safetensors for a folder or no ending.

    Raises `ConfigError` for an unknown format or ending, and for a format that contradicts the ending.
    """
    if form is not None and form not in SUFFIXES:
        raise ConfigError(f"unknown format {form!r}: there are {', '.join(SUFFIXES)}")
    ending = "" if out.is_dir() else out.suffix.lower()
    ends_as = _FORMATS.get(ending)
    if form is None and ending and ends_as is None:
        raise ConfigError(f"{out}: no model is written as {ending}: end it in {', '.join(_FORMATS)}, or name a format")
    if form is not None and ends_as not in (None, form):
        raise ConfigError(
            f"{out} ends as {ends_as} does, and the format is {form}: name it {out.with_suffix(SUFFIXES[form])}, or give "
            f"the format {ends_as}"
        )
    return form or ends_as or "safetensors"


def place(path: Path, model: str, form: str) -> Path:
    """Returns `path`, or `MODEL` with a suffix in the folder `path`. Raises `ConfigError` if there is no folder."""
    target = path / f"{model}{SUFFIXES[form]}" if path.is_dir() else path
    if not target.parent.is_dir():
        raise ConfigError(f"there is no folder {target.parent} for {target.name}: make it first")
    return target


def write(
    weights: Weights,
    path: Path,
    form: str,
    *,
    meta: Mapping[str, Any] | None = None,
    network: Callable[[], Any] | None = None,
) -> None:
    """Writes weights in one of the formats of `SUFFIXES`, whole or not at all. Replaces an existing file.

    - npz: arrays by the names of the tensors, in their order. torch: a state dict, with its order and names.
    - keras: `network` makes the Keras model. It may be None if `meta` contains the network, from a Keras seed.

    Raises `ConfigError` as `form_of` does, and if the network is unknown or has other tensors.
    """
    form = form_of(path, form)
    scratch = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        _writer(form, weights, meta or {}, network)(scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def _writer(
    form: str, weights: Weights, meta: Mapping[str, Any], network: Callable[[], Any] | None
) -> Callable[[Path], object]:
    match form:
        case "safetensors":
            return lambda path: path.write_bytes(tensors.encode(weights, meta))
        case "npz":
            return lambda path: _write_npz(weights, path)
        case "torch":
            import torch

            state = {plain(name): torch.from_numpy(np.array(weights[name])) for name in in_order(weights)}
            if len(state) < len(weights):
                raise ConfigError(
                    "this model's tensors have no names but their places: a state dict would mix them up; safetensors and "
                    "npz do not"
                )
            return lambda path: torch.save(state, path)
        case "keras":
            model = _keras_model(weights, meta, network)
            return lambda path: _write_keras(model, path)
    raise AssertionError(f"{form} is none of SUFFIXES")


def _write_keras(model: Any, path: Path) -> None:
    suffixed = path.with_suffix(".keras")  # by which Keras chooses its format
    model.save(suffixed)
    os.replace(suffixed, path)


def _write_npz(weights: Weights, path: Path) -> None:
    """Writes as numpy.savez, which takes some names for its own arguments."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in in_order(weights):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, weights[name], allow_pickle=False)


def _zipped(path: Path) -> ModelFile:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ConfigError(f"{path} is a damaged archive: {error}") from error
    if names and all(name.endswith(".npy") for name in names):
        return _npz(path)
    if "config.json" in names:
        return _keras(path, "keras", None)
    if any(name.endswith("data.pkl") for name in names):
        return _torch(path)
    raise ConfigError(f"{path} is a zip archive of {', '.join(names[:3]) or 'nothing'}, not a model")


def _npz(path: Path) -> ModelFile:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} holds something other than plain arrays, or is damaged: {error}") from error
    if all(name.startswith("arr_") and name[4:].isdigit() for name in arrays):
        # numpy names arrays so that were saved without names.
        arrays = {name[4:]: array for name, array in arrays.items()}
    if all(name.isdigit() for name in arrays) and not is_list(arrays):
        lacking = next(str(number) for number in range(len(arrays)) if str(number) not in arrays)
        raise ConfigError(f"{path} holds {len(arrays)} numbered arrays, and none is called {lacking}: save all of them")
    return ModelFile(arrays)


def _checked(path: Path | str, file: ModelFile) -> ModelFile:
    """Returns the model with half precision widened. Raises `ConfigError` if a session can't start from it."""
    if not file.weights:
        raise ConfigError(f"{path} holds no arrays")
    opaque = named_opaque(file.meta)
    try:
        weights = {name: dtypes.checked(name, array, name in opaque) for name, array in file.weights.items()}
        tensors.spec_of(weights, file.meta)
    except (ConfigError, InvalidUpdate) as error:
        raise ConfigError(f"{path}: {error.reason}") from error
    for name, array in weights.items():
        if array.dtype.kind == "f" and name not in opaque and not np.isfinite(array).all():
            raise ConfigError(f"{path}: tensor {name!r} holds NaN or infinity")
    return ModelFile(weights, file.meta)


def _keras(path: Path, kind: str, network: Callable[[], Any] | None) -> ModelFile:
    from fedmq.model_files import warm_keras

    try:
        if kind == "h5" and not warm_keras.has_network(path):
            if network is None:
                raise ConfigError(
                    f"{path} holds weights alone, without their network: name the package whose trainer has model(), with "
                    "--package DIR, or save the whole model with model.save('model.keras')"
                )
            model = warm_keras.with_weights(network(), path)
        else:
            model = warm_keras.from_file(path, kind)
    except (ValueError, TypeError, OSError, KeyError) as error:
        if "cast function" in str(error):  # h5py's
            raise ConfigError(f"{path} holds bfloat16, which Keras can't read from .h5: save it as .keras") from error
        raise ConfigError(f"{path} is no Keras model that this Keras can load: {error}") from error
    return ModelFile(warm_keras.weights_of(model), {"roles": warm_keras.roles_of(model), NETWORK: model.to_json()})


def _torch(path: Path) -> ModelFile:
    import torch

    try:
        with warnings.catch_warnings(action="ignore"):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types, among them those of pickle
        raise ConfigError(
            f"{path} is no state dict: it is damaged, or holds Python objects beside tensors, which may run code and are "
            "never loaded: save model.state_dict(), not the model"
        ) from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is no state dict but of type {type(found).__name__}: save model.state_dict()")
    others = [repr(name) for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise ConfigError(
            f"{path} is no state dict: {', '.join(others[:3])} is no tensor; save model.state_dict() alone"
        )
    weights, roles = {}, {}
    for name, own, tensor in zip(positional(map(str, found)), found, found.values(), strict=True):
        weights[name] = _torch_array(path, str(own), tensor)
        # Of all buffers, only these are recognized by their names in a state dict.
        if str(own).endswith((".running_mean", ".running_var")):
            roles[name] = "statistic"
        elif weights[name].dtype.kind in "iu" and weights[name].size > 1:  # a buffer, such as position ids
            roles[name] = "constant"
    return ModelFile(weights, {"roles": roles} if roles else {})


def _torch_array(path: Path, name: str, tensor: Any) -> tensors.Array:
    """Returns the numbers of a tensor, half precision as float32. Raises `ConfigError` for a type that no model holds."""
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized:
        what = "quantized" if tensor.is_quantized else "sparse"
        raise ConfigError(f"{path}: tensor {name!r} is {what}: save it dense, as float32")
    tensor = tensor.detach()
    try:
        array = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
        return dtypes.checked(name, array, False)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.reason}") from error
    except TypeError:
        refusal = dtypes.refused(name, str(tensor.dtype).removeprefix("torch."))
        raise ConfigError(f"{path}: {refusal.reason}") from None


def _keras_model(weights: Weights, meta: Mapping[str, Any], network: Callable[[], Any] | None) -> Any:
    """Returns a Keras model with these weights."""
    if network is None and not isinstance(meta.get(NETWORK), str):
        raise ConfigError(
            "a Keras file holds the layers too, and this model does not know them, as its seed was no Keras file: name "
            "the package whose trainer has model(), with --package DIR"
        )
    from fedmq.model_files import warm_keras

    model = network() if network is not None else warm_keras.from_json(meta[NETWORK])
    try:
        names = matched(weights, warm_keras.names(model))
        model.set_weights([weights[name] for name in names])
    except (ConfigError, ValueError) as error:
        raise ConfigError(
            f"this model has other tensors than the network: it is another package's ({error})"
        ) from error
    return model
