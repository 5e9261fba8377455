"""The client's digits, for the commands: a file of its own, or every nth of the example's."""

import os
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent.parent / "data"


def load_data(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 28, 28, 1) from 0 to 1, and labels (n,); `kind` is train or test."""
    with np.load(Path(os.environ.get("FEDN_DATA_PATH", DATA)) / "mnist-12k.npz") as digits:
        x, y = digits[f"x_{kind}"], digits[f"y_{kind}"]
    if kind == "train":
        mine = slice(int(os.environ.get("FEDMQ_ORDINAL", "0")), None, int(os.environ.get("FEDMQ_COUNT", "1")))
        x, y = x[mine], y[mine]
    return x[..., None] / np.float32(255), y
