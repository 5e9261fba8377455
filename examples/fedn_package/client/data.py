"""Splits scikit-learn's digits into a folder for each client, once; FEDN_DATA_PATH names each client's own."""

import os

import numpy as np

dir_path = os.path.dirname(os.path.realpath(__file__))
abs_path = os.path.abspath(dir_path)


def load_data(data_path, is_train=True):
    if data_path is None:
        data_path = os.environ.get("FEDN_DATA_PATH", abs_path + "/data/clients/1/digits.npz")
    kind = "train" if is_train else "test"
    with np.load(data_path) as data:
        return data[f"x_{kind}"] / np.float32(16), data[f"y_{kind}"]


def split(out_dir="data"):
    from sklearn.datasets import load_digits

    n_splits = int(os.environ.get("FEDN_NUM_DATA_SPLITS", "5"))
    digits = load_digits()
    for i in range(n_splits):
        x, y = digits.data[i::n_splits], digits.target[i::n_splits]
        test = len(x) // 5
        subdir = f"{out_dir}/clients/{i + 1}"
        os.makedirs(subdir, exist_ok=True)
        np.savez(f"{subdir}/digits.npz", x_train=x[test:], y_train=y[test:], x_test=x[:test], y_test=y[:test])


if __name__ == "__main__":
    # Prepare data if not already done
    if not os.path.exists(abs_path + "/data/clients/1"):
        split()
