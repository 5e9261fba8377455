"""Every command of the README is run: here, as a reader types them, or by the test that `ELSEWHERE` names.

A command that is new in the README fails here until one of both is true. What trains MNIST there trains numbers here:
the command is the same, the package a small one.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from examples.packages import Rounds
from fedmq.policies import checked_policy, with_settings
from fedmq_client import Alliance
from support.servers.ports import free_ports

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
PROSE = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
SPANS = re.findall(r"`([^`\n]+)`", PROSE)
PORT = "localhost:8090"
MNIST = "examples/mnist/client"
NUMBERS = "examples/numpy_regression/client"

DEMO = "make demo"
SKEWED = f"fedmq sandbox --package {MNIST} --clients 10 --dirichlet 0.1"
SERVE = f"fedmq sandbox --package {NUMBERS} --serve"
DASHBOARD = "fedmq run dashboard --state-dir fedmq-runs/TIME"
TYPED = (
    "curl localhost:8090/start",
    "fedmq session template > session.toml",
    "fedmq start session.toml --follow",
    "fedmq status",
    "fedmq model get best --out model.safetensors",
)
HELP = ("make", "fedmq --help", "fedmq sandbox --help", "python docs/screenshots.py")
HERE = {DEMO, SKEWED, SERVE, DASHBOARD, *TYPED, *HELP}
DISTRIBUTED = "tests/system/test_distributed.py::"
ELSEWHERE = {
    "make test": "tests/test_readme.py::test_each_verb_of_make_is_there",  # this run is it
    "make simulate PLANS=50000": "tests/simulation/test_simulation.py::test_every_guarantee_holds_under_a_fault_plan",
    "make chaos": "tests/test_readme.py::test_each_verb_of_make_is_there",  # `make test-release` runs it
    "make bench": "tests/test_readme.py::test_each_benchmark_starts",
    "fedmq init my-model --framework keras": "tests/cli/test_package_verbs.py::"
    "test_a_new_package_passes_the_check_and_learns_in_a_sandbox",
    "fedmq check my-model/client": "tests/cli/test_package_verbs.py::"
    "test_a_new_package_passes_the_check_and_learns_in_a_sandbox",
    "fedmq run reducer": f"{DISTRIBUTED}test_every_role_tells_its_health_and_its_numbers",
    "fedmq run combiner": f"{DISTRIBUTED}test_every_role_tells_its_health_and_its_numbers",
    "fedmq run client": f"{DISTRIBUTED}test_every_role_tells_its_health_and_its_numbers",
    "fedmq doctor": "tests/system/test_doctor.py::test_all_is_well_where_all_is_there",
    "curl": f"{DISTRIBUTED}test_a_post_request_by_curl_starts_a_session",
    "fedmq start": f"{DISTRIBUTED}test_fedmq_start_follows_a_session_to_its_end",
}


def _commands() -> set[str]:
    """Those of the blocks of shell, and those in the text."""
    lines = [line.partition(" #")[0].strip() for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
    lines += [span for span in SPANS if re.match(r"(make|fedmq|python|curl)( |$)", span)]
    return {re.sub(r"fedmq-runs/\S+", "fedmq-runs/TIME", line) for line in lines if line}


def _python(first_line: str) -> str:
    """The block of Python that begins so."""
    (block,) = (block for kind, block in BLOCKS if kind == "python" and block.startswith(first_line))
    return str(block)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Where a reader is, with room for what is written."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def _environment(url: str = "") -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    address = {"FEDN_REDUCER_PORT": url.rpartition(":")[2]} if url else {}
    # `make test` may have some ARGS; the demo's command has none.
    ours = {name: value for name, value in os.environ.items() if name != "ARGS"}
    return {**ours, "PATH": path, **address}


def _typed(command: str, folder: Path, url: str = "") -> str:
    """What a command prints; it must succeed."""
    command = command.replace(PORT, url.removeprefix("http://") or PORT)
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=folder, env=_environment(url), timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def _kept_running(command: str, folder: Path, sign: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A command that serves, on a free port instead of its own: the line with `sign`, and its process."""
    process = subprocess.Popen(
        [*shlex.split(command), "--port", str(*free_ports(1))],
        cwd=folder,
        env=_environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert sign in line, line + process.communicate()[0]
            yield line, process
        finally:
            process.kill()


def test_every_command_is_run_here_or_by_a_test_that_is_named() -> None:
    assert _commands() == HERE | ELSEWHERE.keys()


@pytest.mark.parametrize("test", sorted(set(ELSEWHERE.values())))
def test_the_named_test_is_there(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}


def test_one_sandbox_is_driven_by_curl_by_the_command_from_python_and_watched(checkout: Path) -> None:
    with _kept_running(SERVE, checkout, "(this machine only)") as (line, process):
        url = line.partition(" at ")[2].partition(" ")[0]
        said = {command: _typed(command, checkout, url) for command in TYPED}
        assert json.loads(said[TYPED[0]])["session"]
        assert "round 5 of 5: 5 of 5 accepted" in said[TYPED[2]]
        assert "5 of 6 clients" in said[TYPED[3]] or "6 of 6 clients" in said[TYPED[3]]
        assert (checkout / "model.safetensors").stat().st_size > 0
        block: dict[str, Any] = {}
        exec(_python("from fedmq_client import Alliance").replace(f"http://{PORT}", url), block)
        assert block["session"].refresh()["rounds_committed"] == 5
        assert [each["state"] for each in Alliance(url).sessions()] == ["finished"] * 3
        (folder,) = (checkout / "fedmq-runs").iterdir()
        dashboard = DASHBOARD.replace("fedmq-runs/TIME", str(folder.relative_to(checkout)))
        with _kept_running(dashboard, checkout, "The dashboard of fedmq-runs/") as (greeting, _):
            shown = greeting.partition(" is at ")[2].partition(" ")[0]
            assert json.loads(_typed(f"curl -sf {shown}/health", checkout))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_the_demo_says_what_the_readme_says(checkout: Path) -> None:
    planned = _typed("make --dry-run demo", ROOT).splitlines()
    (command,) = (line for line in planned if "sandbox" in line)
    said = _typed(command.replace(".venv/bin/", "").replace(MNIST, NUMBERS), checkout)
    (promised,) = (block for kind, block in BLOCKS if kind == "text")
    for line in (_pattern(line) for line in promised.replace(MNIST, NUMBERS).splitlines() if line.strip(" …")):
        assert re.search(line, said, re.MULTILINE), f"{line}\n{said}"
    following = said.rpartition("next: ")[2].strip()
    assert "test/mse" in _typed(f"{following} || test $? = 1", checkout)  # 1: five rounds are not enough for it


def _pattern(line: str) -> str:
    """A promised line as a pattern: numbers, ids, times and the names of metrics differ."""
    line = re.sub(r"accuracy [\d.]+, loss [\d.]+", "SCORES", line).replace("/mnist/", "/numpy_regression/")
    line = re.sub(r"fedmq-runs/\d+-\d+", "RUN", re.sub(r"s[0-9a-f]{8}-\d{4}-[0-9a-f]{12}", "MODEL", line))
    line = re.escape(re.sub(r"[\d.]+ m?s$", "TIME", line))
    return (
        line.replace("SCORES", r"\w+ [\d.]+")
        .replace("RUN", r"fedmq-runs/[\d-]+")
        .replace("MODEL", r"s\w+-\d{4}-\w{12}")
        .replace("TIME", r"[\d.]+ m?s$")
    )


def test_a_label_skew_is_an_option(checkout: Path) -> None:
    assert "round 5 of 5: 10 of 10 accepted" in _typed(SKEWED.replace(MNIST, NUMBERS), checkout)


def test_each_setting_in_the_text_is_one_of_the_policy() -> None:
    settings = [setting for span in SPANS for setting in re.findall(r"--set (\S+)", span)]
    assert len(settings) > 5
    for setting in settings:
        checked_policy(with_settings({}, [setting]))


def test_the_trainer_in_numpy_learns(tmp_path: Path) -> None:
    made_up = (
        "def load(data):\n    x = np.random.default_rng(1).normal(size=(50, 7))\n    return x, x.sum(axis=1) + 1\n"
    )
    (tmp_path / "trainer.py").write_text(_python("import numpy as np") + made_up)
    (tmp_path / "fedn.yaml").write_text("trainer: trainer.py:MyTrainer\n")
    rounds = Rounds(tmp_path, 2)
    model = rounds.init()
    before = rounds.score(model)["mse"]
    for _ in range(20):
        model = rounds.round(model)
    assert rounds.score(model)["mse"] < before / 5


def test_the_trainer_in_keras_is_python_and_its_parts_are_named_as_ours_are() -> None:
    (trainer,) = (each for each in ast.parse(_python("import keras")).body if isinstance(each, ast.ClassDef))
    methods = [each.name for each in trainer.body if isinstance(each, ast.FunctionDef)]
    ours = (ROOT / "services" / "client" / "fedmq_client" / "frameworks" / "keras.py").read_text(encoding="utf-8")
    assert methods == ["model", "data"]
    assert all(f"def {name}(self" in ours for name in methods)


@pytest.mark.parametrize("command", HELP)
def test_help_is_there(command: str) -> None:
    words = command if command.endswith("--help") or command == "make" else f"{command} --help"
    assert len(_typed(words, ROOT)) > 200


def test_each_verb_of_make_is_there() -> None:
    listed = _typed("make", ROOT)
    for command in (command for command in _commands() if command.startswith("make ")):
        assert f"\n{command.split()[1]} " in f"\n{listed}"
        _typed(f"make --dry-run {command.removeprefix('make ')}", ROOT)


def test_each_benchmark_starts() -> None:
    planned = _typed("make --dry-run bench", ROOT)
    (pattern,) = re.findall(r"benchmarks/\S+?\.py", planned)
    found = sorted(ROOT.glob(pattern))
    assert len(found) > 5
    running = [
        subprocess.Popen([sys.executable, each, "--help"], stdout=subprocess.PIPE, text=True, env=_environment())
        for each in found
    ]
    for each in running:
        assert "usage: " in each.communicate(timeout=60)[0]
        assert each.returncode == 0
