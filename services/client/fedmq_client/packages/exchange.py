"""Writes models for commands, and reads what they return, in the formats that a package can name.

npz           arrays `0` … `n-1` in the order of a list, as FEDn has them
safetensors   the named tensors with their metadata, for any language
h5            a whole Keras model, as FEDn had them in 2020; its network is in the seed's file
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedmq.errors import InvalidUpdate
from fedmq.model_files.filetypes import found_instead
from fedmq.model_files.formats import NETWORK
from fedmq.model_files.naming import in_order
from fedmq.tensors import Weights, tensorblob
from fedmq_client.checks import InvalidResult, without_values


def write(form: str, weights: Weights, meta: Mapping[str, Any], path: Path) -> None:
    """Writes a model for a command. Raises InvalidResult if the model lacks something that the format needs."""
    match form:
        case "npz":
            arrays: dict[str, Any] = {str(number): weights[name] for number, name in enumerate(in_order(weights))}
            np.savez(path, **arrays)
        case "safetensors":
            path.write_bytes(tensorblob.encode(weights, meta))
        case _:
            _write_h5(weights, meta, path)


def read(form: str, path: Path, model: Weights) -> Weights:
    """Reads what a command wrote, under the names of `model`. Raises InvalidResult that describes the file's content."""
    if path.stat().st_size == 0:
        raise without_values(f"the train command wrote no model to {path.name}, its second argument")
    match form:
        case "npz":
            return _read_npz(path, model)
        case "safetensors":
            try:
                return tensorblob.decode(path.read_bytes())[0]
            except InvalidUpdate as error:
                raise InvalidResult(f"what the train command wrote is no model: {error.reason}") from error
        case _:
            return _read_h5(path, model)


def _read_npz(path: Path, model: Weights) -> Weights:
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        with path.open("rb") as file:
            head = file.read(64)
        what = str(error) if head.startswith(b"PK") else f"it is {found_instead(head) or 'of no known form'}"
        raise InvalidResult(f"what the train command wrote is no .npz of plain arrays: {what}") from error
    if found.keys() != {str(number) for number in range(len(model))}:
        wanted = [f"{number} ({name})" for number, name in enumerate(in_order(model))]
        raise InvalidResult(
            f"the train command wrote arrays named {_some(list(found))} to {path.name}, and the model has {_some(wanted)}: "
            "write all of them, named by their numbers: numpy.savez(OUT, **{str(i): a for i, a in enumerate(arrays)})"
        )
    return {name: found[str(number)] for number, name in enumerate(in_order(model))}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3]) or 'nothing'}{more}"


def _write_h5(weights: Weights, meta: Mapping[str, Any], path: Path) -> None:
    network = meta.get(NETWORK)
    if not isinstance(network, str):
        raise without_values("format h5 needs a seed that is a whole Keras model: start from an .h5 or .keras file")
    from fedmq.model_files import warm_keras

    model = warm_keras.from_json(network)
    for name, variable in zip(in_order(weights), model.weights, strict=True):
        variable.assign(weights[name])
    warm_keras.save_h5(model, path)


def _read_h5(path: Path, model: Weights) -> Weights:
    from fedmq.model_files import warm_keras

    try:
        found = warm_keras.weights_of(warm_keras.from_file(path, "h5"))
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise InvalidResult(f"what the train command wrote is no Keras model: {error}") from error
    if len(found) != len(model):
        raise without_values(f"the train command wrote a Keras model of {len(found)} tensors and not {len(model)}")
    return dict(zip(in_order(model), found.values(), strict=True))
