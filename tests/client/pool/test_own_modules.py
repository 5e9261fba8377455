"""A trainer's file is a module as Python's users know it: children import it, and its classes can be pickled."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.pool.runner import Runner
from support.packages import write_package
from support.tiers import require_framework

TRAINER = """
from __future__ import annotations

import inspect, multiprocessing, os, pickle, subprocess, sys
from dataclasses import dataclass
from pathlib import Path

import beside

@dataclass
class Row:
    number: int

    def doubled(self):
        return self.number * beside.FACTOR

def double(row):
    return row.doubled()

class Rows:
    def __len__(self):
        return 4

    def __getitem__(self, number):
        return double(Row(number))

class Trainer:
    def __init__(self, client):
        self.text = Path("beside.py").read_text()

    def train(self, weights, task):
        do = task.config["do"]
        if do in ("spawn", "forkserver"):
            with multiprocessing.get_context(do).Pool(1) as pool:
                found = pool.map(double, [Row(1), Row(2)])
        elif do == "loky":
            from joblib import Parallel, delayed
            found = Parallel(n_jobs=2, backend="loky")(delayed(double)(Row(number)) for number in (1, 2))
        elif do == "loader":
            from torch.utils.data import DataLoader
            found = [int(x) for x in DataLoader(Rows(), num_workers=1, multiprocessing_context="spawn")][1:3]
        elif do == "subprocess":
            code = "import sys, pickle; print([each.doubled() for each in pickle.loads(bytes.fromhex(sys.argv[1]))])"
            rows = pickle.dumps([Row(1), Row(2)]).hex()
            found = eval(subprocess.run([sys.executable, "-c", code, rows], capture_output=True, text=True).stdout)
        elif do == "itself":
            assert "class Row" in inspect.getsource(Row) and Path("beside.py").read_text() == self.text
            assert Path.cwd() == Path(__file__).parent and sys.path[0] == os.getcwd()
            found = [row.doubled() for row in pickle.loads(pickle.dumps([Row(1), Row(2)]))]
        return weights, 1, {"found": repr(found), "name": __name__}
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = write_package(tmp_path / "package", TRAINER)
    (folder / "beside.py").write_text("FACTOR = 2\n")
    return folder


@pytest.mark.parametrize("do", ["itself", "subprocess", "spawn", "forkserver", "loky", "loader"])
def test_children_import_the_trainers_module(do: str, runner: Runner) -> None:
    if do in ("loky", "loader"):
        require_framework({"loky": "joblib", "loader": "torch"}[do])
    result = runner.run(do)
    assert result.metrics == {"found": "[2, 4]", "name": "trainer"}, result


def test_two_packages_of_one_worker_do_not_mix(runner: Runner, tmp_path: Path) -> None:
    other = write_package(tmp_path / "other", TRAINER.replace("number * ", "number + "))
    (other / "beside.py").write_text("FACTOR = 5\n")
    for _ in range(2):
        for folder, found in ((runner.package, "[2, 4]"), (other, "[6, 7]")):
            for do in ("itself", "subprocess"):
                assert runner.run(do, package=folder).metrics["found"] == found


def test_a_file_in_a_folder_has_a_dotted_name(runner: Runner) -> None:
    folder = runner.package
    (folder / "source").mkdir()
    (folder / "source" / "train.py").write_text(TRAINER)
    for manifest in ("trainer: source/train.py:Trainer\n", "trainer: source.train:Trainer\n"):
        (folder / "fedn.yaml").write_text(manifest)
        assert runner.run("subprocess", client=manifest).metrics == {"found": "[2, 4]", "name": "source.train"}
