"""Data of the small trainers."""

import numpy as np

X = np.random.default_rng(3).normal(size=(70, 4)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.int64)
LINE = (np.ones((2, 1), np.float32), np.full((2, 1), 3, np.float32))
"""Two examples of y = 3 x."""
