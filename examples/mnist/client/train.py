"""python train.py IN OUT: one round of training, as FEDn runs it."""

import os
import sys

from data import load_data
from fedn.utils.helpers.helpers import load_metadata, save_metadata
from model import keras, load_parameters, save_parameters


def train(in_path: str, out_path: str) -> None:
    config = load_metadata(in_path)
    keras.utils.set_random_seed(int(os.environ.get("FEDMQ_SEED", "0")) % 2**32)
    model = load_parameters(in_path)
    x, y = load_data("train")
    epochs, batch_size = config.get("epochs", 1), config.get("batch_size", 32)
    history = model.fit(x, y, epochs=epochs, batch_size=batch_size, verbose=2)
    last = {name: values[-1] for name, values in history.history.items()}
    save_metadata({"num_examples": len(x), **last}, out_path)
    save_parameters(model, out_path)


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2])
