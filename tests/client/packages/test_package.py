"""A compute package: each thing that can be wrong with it is named, with what to write instead."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmq.errors import ConfigError
from fedmq_client import Client
from fedmq_client.job import process_state
from fedmq_client.job.load_trainer import build
from fedmq_client.packages.commands import CommandTrainer
from fedmq_client.packages.package import LOGS, PackageError, load

GOOD = "class Good:\n    def __init__(self, client): self.client = client\n    def train(self, weights, task): ...\n"


@pytest.fixture(autouse=True)
def _process() -> Iterator[None]:
    own = process_state.read()
    yield
    process_state.restore(own)


def _write(folder: Path, manifest: str, **files: str) -> Path:
    (folder / "fedn.yaml").write_text(manifest)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_a_class_is_made_with_its_client(tmp_path: Path) -> None:
    package = load(_write(tmp_path, "trainer: code.py:Good", code=GOOD))
    client = Client("c")
    assert vars(build(package, client)) == {"client": client}


def test_module_level_functions_are_a_trainer_too(tmp_path: Path) -> None:
    code = "def train(weights, task): return weights, 3, {}\ndef init(): return {'w': 1}\n"
    trainer = build(load(_write(tmp_path, "trainer: code.py", code=code)), Client("c"))
    assert trainer.train({}, None) == ({}, 3, {})  # type: ignore[arg-type]
    assert trainer.init() == {"w": 1}  # type: ignore[attr-defined]
    assert not hasattr(trainer, "validate")


def test_the_file_is_run_once_for_many_clients_and_finds_modules_beside_it(tmp_path: Path) -> None:
    code = "from beside_the_trainer import ran\nran.append(1)\n" + GOOD
    package = load(_write(tmp_path, "trainer: code.py:Good", code=code, beside_the_trainer="ran = []"))
    first, second = (build(package, Client(name)) for name in ("a", "b"))
    assert type(first) is type(second)
    assert __import__("beside_the_trainer").ran == [1]


def test_two_packages_of_one_process_keep_apart(tmp_path: Path) -> None:
    trainers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        code = GOOD + f"    name = {name!r}\n"
        trainers.append(build(load(_write(tmp_path / name, "trainer: code.py:Good", code=code)), Client("c")))
    assert [trainer.name for trainer in trainers] == ["one", "two"]  # type: ignore[attr-defined]


def test_commands_are_kept(tmp_path: Path) -> None:
    (tmp_path / "env.yaml").write_text("name: x\n")
    manifest = """
python_env: env.yaml
format: npz
entry_points:
  build: {command: python model.py}
  train:
    command: python train.py
  validate: python validate.py
"""
    package = load(_write(tmp_path, manifest))
    assert package.entry_points == {
        "build": "python model.py",
        "train": "python train.py",
        "validate": "python validate.py",
    }
    assert (package.trainer, package.format, package.python_env) == (None, "npz", tmp_path / "env.yaml")
    with pytest.raises(PackageError, match="names no trainer, only commands"):
        build(package, Client("c", form="trainer"))


def test_a_package_with_both_forms_uses_its_trainer_unless_it_is_told(tmp_path: Path) -> None:
    package = load(_write(tmp_path, "trainer: code.py:Good\nentry_points: {train: python train.py}", code=GOOD))
    assert type(build(package, Client("c"))).__name__ == "Good"
    assert isinstance(build(package, Client("c", form="commands")), CommandTrainer)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("trainer: [", "is not valid YAML"),
        ("- a list", "must hold keys such as `trainer: trainer.py:MyTrainer`"),
        ("", "must hold keys"),
        ("trainr: code.py", r"unknown keys \['trainr'\]: did you mean 'trainer'. known are trainer, entry_points"),
        ("format: npz", "names neither a trainer nor a train command"),
        ("trainer: missing.py:Good", "names missing.py, and there is no such .py file"),
        ("trainer: ../code.py:Good", "outside of the package's folder"),
        ("trainer: 5", "must look like `trainer: trainer.py:MyTrainer`"),
        ("entry_points: {tran: {command: x}}", "unknown entry point 'tran': did you mean 'train'. known are build"),
        ("entry_points: {train: {command: x}, infer: {command: y}}", "unknown entry point 'infer'"),
        ("entry_points: {train: {}}", "entry point train has no command"),
        ("entry_points: train", "entry_points must look like"),
        ("trainer: code.py:Good\npython_env: no.yaml", "python_env names no.yaml"),
        ("trainer: code.py:Good\nformat: pickle", "format is 'pickle': commands can exchange npz, safetensors, h5"),
        ("trainer: flower:code.py", "a Flower trainer must look like `trainer: flower:client_app.py:app`"),
        ("trainer: flower:missing.py:app", "names missing.py, and there is no such .py file"),
    ],
)
def test_a_bad_manifest_is_refused_with_the_remedy(tmp_path: Path, manifest: str, words: str) -> None:
    _write(tmp_path, manifest, code=GOOD)
    with pytest.raises(PackageError, match=words) as caught:
        load(tmp_path)
    assert isinstance(caught.value, ConfigError)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"has no fedn.yaml: write one"):
        load(tmp_path)
    (tmp_path / "client").mkdir()
    _write(tmp_path / "client", "trainer: code.py:Good", code=GOOD)
    with pytest.raises(PackageError, match="client has one: name that folder"):
        load(tmp_path)
    with pytest.raises(PackageError, match="there is no folder"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("trainer", "code", "words"),
    [
        ("code.py:Bad", GOOD, "has no class Bad, which fedn.yaml names: it has Good"),
        ("code.py:Bad", "x = 1", "it has no class with a train method"),
        ("code.py:Bad", "class Bad: ...", r"class Bad in code.py has no method train\(self, weights, task\)"),
        ("code.py", GOOD, r"code.py has no function train\(weights, task\)"),
    ],
)
def test_a_trainer_that_is_not_there_is_refused(tmp_path: Path, trainer: str, code: str, words: str) -> None:
    package = load(_write(tmp_path, f"trainer: {trainer}", code=code))
    with pytest.raises(PackageError, match=words):
        build(package, Client("c"))


@pytest.mark.parametrize(
    ("trainer", "code", "words"),
    [
        (
            "code.py:Bad",
            "\nclass Bad:\n    def __init__(self, client): ...\n    def train(self, weights): ...\n",
            r"code\.py:4: train\(self, weights\) can't be called with weights and task: write train\(self, weights, task\)$",
        ),
        (
            "code.py",
            "def train(weights, task, rate): ...\n",
            r"code\.py:1: train\(weights, task, rate\) can't be called with weights and task: write train\(weights, task\)$",
        ),
        (
            "code.py:Bad",
            GOOD.replace("Good", "Bad") + "    def validate(self, task): ...\n",
            r"code\.py:\d+: validate\(self, task\) can't be called with weights and task: write "
            r"validate\(self, weights, task\)$",
        ),
        (
            "code.py:Bad",
            GOOD.replace("Good", "Bad") + "    def init(self, client): ...\n",
            r"code\.py:\d+: init\(self, client\) can't be called without arguments: write init\(self\)$",
        ),
    ],
)
def test_a_method_that_can_not_be_called_is_refused_with_its_place_and_the_right_signature(
    tmp_path: Path, trainer: str, code: str, words: str
) -> None:
    package = load(_write(tmp_path, f"trainer: {trainer}", code=code))
    with pytest.raises(PackageError, match=words):
        build(package, Client("c"))


@pytest.mark.parametrize(
    "signature", ["self, weights, task, rate=1", "self, *arguments", "self, w, t, /", "self, a, b, **k"]
)
def test_whatever_can_be_called_with_weights_and_task_is_accepted(tmp_path: Path, signature: str) -> None:
    code = f"class Fine:\n    def __init__(self, client): ...\n    def train({signature}): ...\n"
    build(load(_write(tmp_path, "trainer: code.py:Fine", code=code)), Client("c"))


def test_a_file_that_does_not_run_says_so_each_time(tmp_path: Path) -> None:
    package = load(_write(tmp_path, "trainer: code.py:Good", code="import no_such_module_anywhere"))
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
            build(package, Client("c"))


def test_the_hash_is_of_names_and_contents_and_of_nothing_that_comes_and_goes(tmp_path: Path) -> None:
    package = load(_write(tmp_path, "trainer: code.py:Good", code=GOOD))
    before = package.sha256
    for name in ("__pycache__", "data", ".git"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    assert package.sha256 == before
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("1")
    with_file = package.sha256
    assert with_file != before
    (tmp_path / "sub" / "a.txt").rename(tmp_path / "sub" / "b.txt")
    assert package.sha256 not in (before, with_file)


def test_what_is_no_file_and_what_tools_write_is_not_in_the_hash(tmp_path: Path) -> None:
    package = load(_write(tmp_path, "trainer: code.py:Good", code=GOOD))
    before = package.sha256
    (tmp_path / "latest-run").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to(os.devnull)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
    for name in LOGS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    assert package.sha256 == before
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "runs").mkdir()
    (tmp_path / "code" / "runs" / "file").write_text("x")
    assert package.sha256 != before


def test_a_large_file_is_hashed_in_pieces_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = load(_write(tmp_path, "trainer: code.py:Good", code=GOOD))
    (tmp_path / "weights.bin").write_bytes(bytes(range(256)) * 8)
    before = package.sha256
    assert not caplog.records
    monkeypatch.setattr("fedmq_client.packages.package.PIECE", 100)
    monkeypatch.setattr("fedmq_client.packages.package.LARGE", 2000)
    assert package.sha256 == before
    assert f"the package {tmp_path} holds 0 MB in 3 files, which are read for its hash at each start" in caplog.text


def test_a_trainer_may_be_named_by_its_module(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "train.py").write_text(GOOD)
    for manifest, trainer in {
        "trainer: own.train:Good": "own/train.py:Good",
        "trainer: own.train": "own/train.py",
        "trainer: flower:own.train:app": "flower:own/train.py:app",
    }.items():
        assert load(_write(tmp_path, manifest)).trainer == trainer


def test_roles_are_a_map_of_names_to_words(tmp_path: Path) -> None:
    (tmp_path / "t.py").touch()
    (tmp_path / "fedn.yaml").write_text("trainer: t.py\nroles: {'0003/position_ids': constant}")
    assert load(tmp_path).roles == {"0003/position_ids": "constant"}
    (tmp_path / "fedn.yaml").write_text("trainer: t.py\nroles: [constant]")
    with pytest.raises(PackageError, match=r"roles must look like `roles: .'0003/position_ids': constant.`"):
        load(tmp_path)
