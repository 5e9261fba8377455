"""`python train.py IN OUT`: trains the model in IN on this site's data and writes it, and OUT-metadata."""

import json
import sys
from pathlib import Path

import model
from data import load

source, target = sys.argv[1:]
config = json.loads(Path(f"{source}-metadata").read_text())
rate = config.get("learning_rate", 0.5)
x, y = load()
w, b = model.load(source)
for _ in range(config.get("epochs", 5)):
    error = model.probability(x, w, b) - y
    w = w - rate * x.T @ error / len(error)
    b = b - rate * error.mean()
model.save(target, w, b)
Path(f"{target}-metadata").write_text(json.dumps({"num_examples": len(y)}))
