"""`fedmq model convert`: a model file in another format, without a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file
from typer.testing import CliRunner, Result

from fedmq_cli.app import app


def _convert(*words: object) -> Result:
    return CliRunner().invoke(app, ["model", "convert", *(str(word) for word in words)])


def test_each_format_becomes_each_other_one_and_comes_back_with_its_numbers(tmp_path: Path) -> None:
    weights: dict[str, np.ndarray[Any, Any]] = {
        "0000/w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "0001/b": np.ones((), np.float64),
    }
    save_file(weights, tmp_path / "a.safetensors")
    before = "a.safetensors"
    for after in ("b.npz", "c.pt", "d.safetensors"):
        done = _convert(tmp_path / before, "--out", tmp_path / after)
        assert done.exit_code == 0, done.output
        before = after
    found = load_file(tmp_path / "d.safetensors")
    assert [(array.dtype, array.tobytes()) for _, array in sorted(found.items())] == [
        (weights[name].dtype, weights[name].tobytes()) for name in ("0000/w", "0001/b")
    ]
    assert list(torch.load(tmp_path / "c.pt", weights_only=True)) == ["w", "b"]


def test_an_adapter_in_bfloat16_is_converted_into_a_folder(tmp_path: Path) -> None:
    save_torch_file({"lora_A.weight": torch.ones(2, 4).bfloat16()}, tmp_path / "adapter_model.safetensors")
    done = _convert(tmp_path / "adapter_model.safetensors", "--out", tmp_path, "--format", "npz", "--json")
    assert done.exit_code == 0, done.output
    with np.load(json.loads(done.stdout)["path"]) as archive:
        assert archive["lora_A.weight"].dtype == np.float32
    assert (tmp_path / "adapter_model.npz").is_file()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--out", "b.npz", "--format", "torch"), "name it b.pt, or give the format npz"),
        (("--out", "b.onnx"), "no model is written as .onnx"),
        (("--out", "none/b.npz"), "there is no folder none for b.npz"),
        (("--out", "b.keras"), "--package DIR"),
    ],
)
def test_what_can_not_be_written_is_said_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"w": np.ones(2)}, tmp_path / "a.safetensors")
    done = _convert("a.safetensors", *words)
    assert (done.exit_code, complaint in done.stderr) == (2, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
