"""`.ci/find-python` finds an interpreter that runs, on PATH or with pyenv. The interpreters here are scripts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / ".ci" / "find-python"
RUNS, FAILS = "exit 0", "echo 'pyenv: python9.9: command not found' >&2; exit 127"


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("on_path", "with_pyenv", "found"),
    [
        (RUNS, {"9.9.1": RUNS}, "bin/python9.9"),
        (FAILS, {"9.9.1": RUNS}, "pyenv/versions/9.9.1/bin/python"),
        (None, {"9.9.1": RUNS}, "pyenv/versions/9.9.1/bin/python"),
        (None, {"9.9.9": RUNS, "9.9.10": RUNS, "9.8.1": RUNS}, "pyenv/versions/9.9.10/bin/python"),
        (None, {"9.9.9": RUNS, "9.9.10": FAILS}, "pyenv/versions/9.9.9/bin/python"),
        (RUNS, {}, "bin/python9.9"),
        (RUNS, None, "bin/python9.9"),
        (FAILS, {"9.9.1": FAILS, "9.8.1": RUNS}, None),
        (FAILS, {}, None),
        (None, None, None),
    ],
    ids=[
        "PATH comes first",
        "a shim fails",
        "pyenv alone",
        "the newest one",
        "the newest one that runs",
        "PATH alone, and pyenv is empty",
        "PATH alone, and no pyenv",
        "none that runs",
        "pyenv is empty",
        "none at all",
    ],
)
def test_the_first_interpreter_that_runs_is_found(
    tmp_path: Path, on_path: str | None, with_pyenv: dict[str, str] | None, found: str | None
) -> None:
    if on_path is not None:
        script(tmp_path / "bin" / "python9.9", on_path)
    if with_pyenv is not None:
        script(tmp_path / "bin" / "pyenv", f"echo '{tmp_path}/pyenv'")
        for version, text in with_pyenv.items():
            script(tmp_path / "pyenv" / "versions" / version / "bin" / "python", text)
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    done = subprocess.run([str(PROGRAM), "9.9"], env={"PATH": path}, capture_output=True, text=True)
    expected = (1, "") if found is None else (0, f"{tmp_path}/{found}\n")
    assert (done.returncode, done.stdout, done.stderr) == (*expected, "")
