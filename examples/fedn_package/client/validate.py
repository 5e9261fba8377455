import os
import sys

import numpy as np
from data import load_data
from fedn.utils.helpers.helpers import save_metrics
from model import load_parameters

dir_path = os.path.dirname(os.path.realpath(__file__))
sys.path.append(os.path.abspath(dir_path))


def validate(in_model_path, out_json_path, data_path=None):
    """Score the model at in_model_path, and write the metrics to out_json_path."""
    model = load_parameters(in_model_path)
    report = {}
    for kind in ("training", "test"):
        x, y = load_data(data_path, is_train=kind == "training")
        probabilities = model.predict(x)
        report[f"{kind}_accuracy"] = float((probabilities.argmax(axis=1) == y).mean())
        report[f"{kind}_loss"] = float(-np.log(probabilities[np.arange(len(y)), y]).mean())
    save_metrics(report, out_json_path)


if __name__ == "__main__":
    validate(sys.argv[1], sys.argv[2])
