"""The network of trainer.py for the commands, and its weights as FEDn's list of arrays."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from fedn.utils.helpers.helpers import get_helper
from keras import layers

helper = get_helper("numpyhelper")


def compile_model() -> keras.Model:
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
    model.compile(keras.optimizers.Adam(0.002), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def load_parameters(path: str) -> keras.Model:
    model = compile_model()
    model.set_weights(helper.load(path))
    return model


def save_parameters(model: keras.Model, path: str) -> None:
    helper.save(model.get_weights(), path)


if __name__ == "__main__":
    keras.utils.set_random_seed(int(os.environ.get("FEDMQ_RANDOM_SEED", "0")))
    save_parameters(compile_model(), "../seed.npz")
