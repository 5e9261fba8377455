"""python validate.py IN OUT: scores a model; the evaluator on the test digits, a client on its own."""

import os
import sys

from data import load_data
from fedn.utils.helpers.helpers import save_metrics
from model import load_parameters


def validate(in_path: str, out_path: str) -> None:
    x, y = load_data("test" if os.environ.get("FEDMQ_EVALUATOR") == "1" else "train")
    model = load_parameters(in_path)
    save_metrics(model.evaluate(x, y, batch_size=256, verbose=0, return_dict=True), out_path)


if __name__ == "__main__":
    validate(sys.argv[1], sys.argv[2])
