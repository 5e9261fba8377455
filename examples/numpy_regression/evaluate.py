"""Prints the distance of a model from the closed-form solution of all patients' pooled data.

    python examples/numpy_regression/evaluate.py MODEL.safetensors

Uses numpy and safetensors, and nothing of FedMQ. Exits with 0 if the distance is at most 1 %.
"""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

DATA = Path(__file__).parent / "data" / "diabetes.csv"
TEST_ROWS = 42
MEAN = np.array([48.5, 1.5, 26.4, 94.6, 49.8, 4.64, 91.3])
SCALE = np.array([13.1, 0.5, 4.4, 13.8, 12.9, 0.52, 11.5])


def design(rows: np.ndarray) -> np.ndarray:
    """Returns standardised measurements and a column of ones: (patients, 8)."""
    return np.column_stack([(rows[:, :-1] - MEAN) / SCALE, np.ones(len(rows))])


def evaluate(model: Path) -> dict[str, float]:
    """Returns the relative distance (the larger one of coefficients and intercept), and mean squared errors."""
    rows = np.loadtxt(DATA, delimiter=",", skiprows=1)
    train, test = rows[:-TEST_ROWS], rows[-TEST_ROWS:]
    best = np.linalg.lstsq(design(train), train[:, -1], rcond=None)[0]
    weights = load_file(model)
    found = np.concatenate([weights["coefficients"], weights["intercept"]])
    error, size = np.linalg.norm((found - best)[:-1]), np.linalg.norm(best[:-1])
    return {
        "distance": float(max(error / size, abs(found[-1] / best[-1] - 1))),
        "train/mse": float(((design(train) @ found - train[:, -1]) ** 2).mean()),
        "test/mse": float(((design(test) @ found - test[:, -1]) ** 2).mean()),
        "closed_form/train/mse": float(((design(train) @ best - train[:, -1]) ** 2).mean()),
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    scores = evaluate(Path(sys.argv[1]))
    for name, value in scores.items():
        print(f"{name:24}{value:.6g}")
    sys.exit(0 if scores["distance"] <= 0.01 else 1)
