"""`python train.py IN OUT`: trains the model in IN on this site's data and writes it, and OUT-metadata."""

import json
import sys
from pathlib import Path

import model
from data import load

DEFAULTS = {"epochs": 5, "learning_rate": 0.5}

source, target = sys.argv[1:]
config = json.loads(Path(f"{source}-metadata").read_text())
if unknown := config.keys() - DEFAULTS.keys():
    sys.exit(f"unknown configuration train.{', train.'.join(unknown)}: known are train.{', train.'.join(DEFAULTS)}")
config = {**DEFAULTS, **config}
x, y = load()
w, b = model.load(source)
for _ in range(config["epochs"]):
    error = model.probability(x, w, b) - y
    w = w - config["learning_rate"] * x.T @ error / len(error)
    b = b - config["learning_rate"] * error.mean()
model.save(target, w, b)
Path(f"{target}-metadata").write_text(json.dumps({"num_examples": len(y)}))
