"""Scores a model on the 2,000 test digits, with keras, numpy and safetensors alone.

    python examples/mnist/evaluate.py MODEL.safetensors [DATA.npz]

Nothing of FedMQ is used here, not even its model: the network is defined again below. This makes the score independent,
and shows that the file can be used anywhere.
"""

import os
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

DATA = Path(__file__).parent / "data" / "mnist-12k.npz"


def evaluate(path: Path, data: Path = DATA) -> dict[str, float]:
    """Returns loss and accuracy of the model in `path`. Its tensors, sorted by name, are the weights."""
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    tensors = load_file(path)
    model.set_weights([tensors[name] for name in sorted(tensors)])
    with np.load(data) as digits:
        x, y = digits["x_test"][..., None] / np.float32(255), digits["y_test"]
    scores = model.evaluate(x, y, batch_size=256, verbose=0, return_dict=True)
    return {name: float(value) for name, value in scores.items()}


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    for name, value in sorted(evaluate(*map(Path, sys.argv[1:])).items()):
        print(f"{name} {value:.4f}")
