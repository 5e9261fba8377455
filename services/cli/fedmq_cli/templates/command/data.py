"""This site's examples and labels: what FEDN_DATA_PATH names; without it, made-up points.

An evaluator's are a test set, which no client trains on.
"""

import os

import numpy as np


def load() -> tuple[np.ndarray, np.ndarray]:
    if "FEDN_DATA_PATH" in os.environ:
        with np.load(os.environ["FEDN_DATA_PATH"]) as arrays:
            return arrays["x"], arrays["y"]
    is_evaluator = os.environ.get("FEDMQ_EVALUATOR") == "1"
    source = np.random.default_rng(0 if is_evaluator else 1 + int(os.environ.get("FEDMQ_ORDINAL", "0")))
    y = source.integers(0, 2, 200)
    return source.normal(size=(200, 4)) + y[:, None], y
