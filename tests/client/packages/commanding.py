"""Packages of commands, and jobs that run them."""

from pathlib import Path
from typing import Any

import numpy as np

from fedmq import tensors
from fedmq_client import Client
from fedmq_client.job.job import Job, Result, Validated
from fedmq_client.pool.inline import InlinePool

MODEL = {
    "0010/bias": np.array([5.0, 6.0]),
    "0002/kernel": np.array([[1, 2], [3, 4]], np.float32),
    "0003/count": np.array(7),
}
BLOB = tensors.encode(MODEL, {"roles": {"0010/bias": "statistic"}})

TRAIN = """
import json, os, sys
import numpy as np
source, target = sys.argv[1:]
with np.load(source) as archive:
    arrays = {name: archive[name] for name in archive.files}
seen = {
    "cwd": os.getcwd(), "names": list(arrays), "source": source, "target": target,
    "before": os.path.getsize(target), "config": json.load(open(source + "-metadata")),
    "env": {name: value for name, value in os.environ.items() if name.startswith(("FEDN", "FEDMQ"))},
    "python": sys.executable, "beside": sorted(os.listdir(os.path.dirname(source))),
    "kernel": arrays["0"].tolist(),
}
json.dump(seen, open("seen.json", "w"))
np.savez(target, **{"0": arrays["0"] + 1, "1": arrays["1"] + 2, "2": arrays["2"] * 2})
json.dump({"num_examples": 12, "loss": 0.5}, open(target + "-metadata", "w"))
"""
VALIDATE = """
import json, sys
json.dump({"accuracy": 0.75, "report": "fine", "argv": sys.argv[1:]}, open(sys.argv[2], "w"))
"""


def made(folder: Path, manifest: str = "", **files: str) -> Path:
    commands = "entry_points: {train: {command: python train.py}, validate: {command: python validate.py}}"
    (folder / "fedn.yaml").write_text(manifest or commands)
    for name, text in ({"train": TRAIN, "validate": VALIDATE} | files).items():
        (folder / f"{name}.py").write_text(text)
    return folder


def job(package: Path, kind: Any = "train", client: Client | None = None, **more: Any) -> Job:
    more.setdefault("model", None if kind == "init" else BLOB)
    return Job("j", client or Client("c"), package, kind, session="s", round=2, rounds=3, random_seed=11, **more)


def run(job: Job) -> tuple[Result, list[Validated]]:
    results: list[Result] = []
    validated: list[Validated] = []
    InlinePool().submit(job, validated.append, lambda *_: None, results.append)
    return results[0], validated


def weights(result: Result) -> dict[str, np.ndarray]:
    assert isinstance(result.update, bytes), result
    return tensors.decode(result.update)[0]
