"""This site's examples and labels: the file that FEDN_DATA_PATH names, or its part of made-up points.

An evaluator's are a test set, which no client trains on.
"""

import os

import numpy as np


def load() -> tuple[np.ndarray, np.ndarray]:
    if "FEDN_DATA_PATH" in os.environ:
        with np.load(os.environ["FEDN_DATA_PATH"]) as arrays:
            return arrays["x"], arrays["y"]
    is_evaluator = os.environ.get("FEDMQ_EVALUATOR") == "1"
    source = np.random.default_rng(0 if is_evaluator else 1)
    y = source.integers(0, 2, 1000)
    x = source.normal(size=(1000, 4)) + y[:, None]
    if is_evaluator:
        return x, y
    part, parts = int(os.environ.get("FEDMQ_ORDINAL", "0")), int(os.environ.get("FEDMQ_COUNT", "1"))
    return x[part::parts], y[part::parts]
