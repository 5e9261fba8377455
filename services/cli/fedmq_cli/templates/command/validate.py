"""`python validate.py IN OUT`: scores the model in IN on this site's data and writes metrics as JSON."""

import json
import sys
from pathlib import Path

import model
from data import load

source, target = sys.argv[1:]
x, y = load()
accuracy = ((model.probability(x, *model.load(source)) > 0.5) == y).mean()
Path(target).write_text(json.dumps({"accuracy": float(accuracy)}))
