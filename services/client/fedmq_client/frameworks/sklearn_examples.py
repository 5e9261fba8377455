"""The value of a SklearnTrainer's `data()`: a matrix of features, dense or sparse, and labels or targets."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmq_client.frameworks import examples
from fedmq_client.frameworks.examples import refusal

REMEDY = "return x, y: an array of shape (n, features), and the label or target of each row"


class SklearnExamples:
    """Features `x` of shape (n, features), and `y` of shape (n,), or (n, targets) of a regression."""

    def __init__(self, found: Any, hook: str, labels: NDArray[Any] | None) -> None:
        """Raises ConfigError if `found`, which `hook` returned, is something else, or has a label that `labels` lacks.

        `labels` are None for a regression.
        """
        x, y = examples.pair(found, hook, REMEDY)
        if examples.is_sparse(x):
            # The only format whose rows every estimator can take.
            self.x: Any = x.tocsr()
        else:
            self.x = examples.array(x, hook, "x")
        self.y = examples.array(y, hook, "y", examples.NUMBERS + ("" if labels is None else examples.TEXT))
        self._hook = hook
        self._length = examples.length((self.x, self.y), hook)
        if self._length and self.x.ndim != 2:
            advice = ".reshape(-1, 1)" if self.x.ndim == 1 else ".reshape(len(x), -1)"
            raise refusal(hook, f"x of shape {self.x.shape}", f"make its shape (n, features), for example by {advice}")
        if self.y.ndim == 2 and self.y.shape[1] == 1:
            self.y = self.y.ravel()
        if labels is not None:
            self._check_labels(labels)

    def __len__(self) -> int:
        return self._length

    @property
    def features(self) -> int:
        """The number of features. Raises ConfigError if there are no examples that show it."""
        if self.x.ndim != 2:
            shape = self.x.shape
            raise refusal(self._hook, f"no examples, in shape {shape}", "let x be of shape (0, features) in that case")
        return int(self.x.shape[1])

    def _check_labels(self, labels: NDArray[Any]) -> None:
        if self.y.ndim > 1:
            raise refusal(self._hook, f"y of shape {self.y.shape}", "return a label a row, as in y.argmax(axis=1)")
        other = np.setdiff1d(self.y, labels)
        if len(other):
            raise refusal(
                self._hook,
                f"labels that are not in `classes`: {other[:3].tolist()}",
                "name all labels of all clients in it",
            )
