"""What fails before any step is reported of the user's file, with the frames of the user's code alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmq_client import Client
from fedmq_client.job.job import Job, Result
from fedmq_client.pool.inline import InlinePool
from support.packages import write_package

GOOD = "class Trainer:\n    def __init__(self, client): {}\n    def train(self, weights, task): ...\n"

FILES = {
    "an import": (
        f"import no_such_module\n{GOOD}",
        "trainer.py: ModuleNotFoundError: No module named 'no_such_module'",
        ["trainer.py"],
    ),
    "an import of another file": (
        f"import broken_beside\n{GOOD}",
        "trainer.py: ZeroDivisionError: division by zero",
        ["trainer.py", "broken_beside.py"],
    ),
    "syntax": ("class Trainer\n", "trainer.py: SyntaxError: expected ':' (trainer.py, line 1)", ["trainer.py"]),
    "data": (
        GOOD.format("open('patients.csv')"),
        "trainer.py: FileNotFoundError: [Errno 2] No such file or directory: 'patients.csv'",
        ["trainer.py"],
    ),
}


def _run(folder: Path) -> Result:
    results: list[Result] = []
    job = Job(id="j", client=Client("c"), package=folder, kind="init")
    InlinePool().submit(job, lambda _: None, lambda *_: None, results.append)
    return results[0]


def test_what_init_returned_is_refused_without_frames_of_fedmq(tmp_path: Path) -> None:
    write_package(tmp_path, "import numpy as np\n" + GOOD + "    def init(self): return {'w': np.zeros(2, complex)}\n")
    result = _run(tmp_path)
    assert result.outcome == "failed"
    assert "complex128" in result.reason
    assert result.traceback == ""


@pytest.mark.parametrize("row", FILES)
def test_the_reason_names_the_file_and_the_traceback_has_the_users_frames(row: str, tmp_path: Path) -> None:
    text, reason, files = FILES[row]
    write_package(tmp_path, text)
    (tmp_path / "broken_beside.py").write_text("1 / 0\n")
    before = Path.cwd()
    result = _run(tmp_path)
    assert result.reason == reason
    lines = [line for line in result.traceback.splitlines() if line.lstrip().startswith("File ")]
    assert [Path(line.split('"')[1]).name for line in lines] == files
    assert "importlib" not in result.traceback
    assert Path.cwd() == before
