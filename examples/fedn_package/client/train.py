import os
import sys

import numpy as np
from data import load_data
from fedn.utils.helpers.helpers import load_metadata, save_metadata
from model import load_parameters, save_parameters

dir_path = os.path.dirname(os.path.realpath(__file__))
sys.path.append(os.path.abspath(dir_path))


def train(in_model_path, out_model_path, data_path=None, batch_size=32, epochs=1, lr=0.5):
    """Train the model at in_model_path, and write it with its metadata to out_model_path."""
    settings = load_metadata(in_model_path)
    epochs = settings.get("epochs", epochs)
    x_train, y_train = load_data(data_path)
    model = load_parameters(in_model_path)
    order = np.random.default_rng(0)
    for epoch in range(epochs):
        shuffled = order.permutation(len(x_train))
        for start in range(0, len(x_train), batch_size):
            batch = shuffled[start : start + batch_size]
            model.step(x_train[batch], y_train[batch], lr)
        print(f"Epoch {epoch + 1}/{epochs}")

    metadata = {
        # num_examples are mandatory
        "num_examples": len(x_train),
        "batch_size": batch_size,
        "epochs": epochs,
        "lr": lr,
    }
    save_metadata(metadata, out_model_path)
    save_parameters(model, out_model_path)


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2])
