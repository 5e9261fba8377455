"""The README keeps its word: its commands run as written, and its figures and trainers are what a reader gets."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.blocks import ROOT, Block, blocks, text_of
from docs.reader import Reader, checkout
from examples.packages import Rounds
from fedmq_client import Alliance

pytestmark = pytest.mark.timeout(1200)
BLOCKS = blocks("README.md")


def _python(first_line: str) -> str:
    """Returns the block of Python that begins with this line."""
    (block,) = (block for block in BLOCKS if block.language == "python" and block.text.startswith(first_line))
    return block.text


def _outputs(reader: Reader) -> dict[str, str]:
    """Types every block that is not marked; returns the output of each by its first line."""

    def first_line(block: Block) -> str:
        return block.text.partition("\n")[0].partition("  #")[0]

    return {first_line(block): reader.type(block) for block in BLOCKS if block.reason is None}


def test_every_command_works_as_written(tmp_path: Path) -> None:
    with Reader(checkout(tmp_path)) as reader:
        outputs = _outputs(reader)
        sessions = Alliance(f"http://localhost:{reader.api}").sessions()
        health = subprocess.check_output(
            ["curl", "-sf", "--retry", "9", "--retry-connrefused", f"localhost:{reader.dashboard}/health"]
        )

    _assert_as_promised(outputs["make demo"])
    (skewed,) = (output for command, output in outputs.items() if "--clients 10" in command)
    assert "round 5 of 5: 10 of 10 accepted" in skewed
    assert [each["state"] for each in sessions] == ["finished"] * 3
    assert (tmp_path / "model.safetensors").stat().st_size > 0
    assert json.loads(health)


def _assert_as_promised(output: str) -> None:
    """The demo prints every line that the README shows, with other numbers, ids and times."""
    (promised,) = re.findall(r"^```text\n(.*?)^```", text_of("README.md"), re.DOTALL | re.MULTILINE)
    for line in (line for line in promised.splitlines() if line.strip(" …")):
        assert re.search(_pattern(line), output, re.MULTILINE), f"{line}\n{output}"


def _pattern(line: str) -> str:
    """Returns a promised line as a pattern."""
    words = {
        r"fedmq-runs/\d+-\d+": r"fedmq-runs/[\d-]+",
        r"s[0-9a-f]{8}-\d{4}-[0-9a-f]{12}": r"s\w+-\d{4}-\w{12}",
        r"[\d.]+ m?s\b": r"[\d.]+ m?s",
        r"\d\.\d+": r"\d\.\d+",
    }
    found = re.compile("|".join(words))
    gaps = [next(new for old, new in words.items() if re.fullmatch(old, part)) for part in found.findall(line)]
    texts = [re.escape(part) for part in found.split(line)]
    return texts[0] + "".join(gap + text for gap, text in zip(gaps, texts[1:], strict=True))


def test_the_trainer_in_numpy_learns(tmp_path: Path) -> None:
    data = "def load(data):\n    x = np.random.default_rng(1).normal(size=(50, 7))\n    return x, x.sum(axis=1) + 1\n"
    (tmp_path / "trainer.py").write_text(_python("import numpy as np") + data)
    (tmp_path / "fedn.yaml").write_text("trainer: trainer.py:MyTrainer\n")
    rounds = Rounds(tmp_path, 2)
    model = rounds.init()
    before = rounds.run("validate", rounds.sites[0], model).metrics["mse"]
    for _ in range(20):
        model = rounds.round(model)
    assert rounds.run("validate", rounds.sites[0], model).metrics["mse"] < before / 5


def test_the_trainer_in_keras_has_the_methods_of_the_base_class() -> None:
    (trainer,) = (each for each in ast.parse(_python("import keras")).body if isinstance(each, ast.ClassDef))
    methods = [each.name for each in trainer.body if isinstance(each, ast.FunctionDef)]
    base = (ROOT / "services" / "client" / "fedmq_client" / "frameworks" / "keras.py").read_text(encoding="utf-8")
    assert methods == ["model", "data"]
    assert all(f"def {name}(self" in base for name in methods)


PROGRAMS = [path for path in sorted((ROOT / "benchmarks").glob("[a-z]*.py")) if "__main__" in path.read_text("utf-8")]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_benchmark_starts(program: Path) -> None:
    assert "usage: " in subprocess.check_output([sys.executable, program, "--help"], text=True, timeout=60)
