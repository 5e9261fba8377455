"""The value of a KerasTrainer's `data()`: arrays of inputs, targets and weights of examples."""

from typing import Any

import numpy as np

from fedmq_client.frameworks import examples
from fedmq_client.frameworks.examples import refusal

REMEDY = "return x, y: arrays of inputs and targets, with several inputs in a tuple or dict"
PARTS = ("x", "y", "sample_weight")


class KerasExamples:
    """Inputs, targets and, if there are any, weights of examples. Each is an array, or a tuple or dict of arrays."""

    def __init__(self, found: Any, hook: str, rank: int | None) -> None:
        """Raises ConfigError if `found`, which `hook` returned, holds no arrays of equal length.

        `rank` is that of a batch of the model's first input, None if the model does not know it.
        """
        if hasattr(found, "element_spec"):
            found = _read(found, hook, rank)
        parts = examples.pair(found, hook, REMEDY, most=3)
        self.parts = tuple(
            examples.checked(part, hook, name, lambda value, where: examples.array(value, hook, where))
            for name, part in zip(PARTS, parts, strict=False)
        )
        self._length = examples.length(self.parts, hook)

    def __len__(self) -> int:
        return self._length

    def rows(self, index: Any) -> dict[str, Any]:
        """Returns these examples as arguments of `fit` and `evaluate`."""
        return {
            name: _as_lists(examples.mapped(lambda array: array[index], part))
            for name, part in zip(PARTS, self.parts, strict=False)
        }


def _as_lists(tree: Any) -> Any:
    """Returns the tree with lists for its tuples, as Keras takes several inputs."""
    if isinstance(tree, tuple):
        return [_as_lists(value) for value in tree]
    return tree


def _read(pipeline: Any, hook: str, rank: int | None) -> tuple[Any, ...]:
    """Reads a tf.data pipeline to its end. It is batched if an element has `rank` axes, or a first axis without a size.

    Raises ConfigError for an endless one, and one whose elements have no parts.
    """
    spec = pipeline.element_spec
    if not isinstance(spec, tuple):
        raise refusal(hook, "a tf.data pipeline without targets", "let its elements be x, y")
    if hasattr(pipeline, "cardinality") and int(pipeline.cardinality()) == -1:
        raise refusal(hook, "an endless tf.data pipeline", "leave out .repeat(): the session sets the epochs")
    shapes: list[Any] = [getattr(leaf, "shape", None) for leaf in examples.leaves(spec)]
    if any(shape is None or shape.rank is None for shape in shapes):
        raise refusal(hook, "a tf.data pipeline of unknown shapes", "return x, y as arrays")
    batched = all(shape.rank and shape[0] is None for shape in shapes) or (
        shapes[0].rank == rank and all(shape.rank for shape in shapes)
    )
    elements: list[list[Any]] = [[] for _ in shapes]
    for element in pipeline:
        for column, leaf in zip(elements, examples.leaves(element), strict=True):
            column.append(np.asarray(leaf))
    columns = iter(elements)
    join = np.concatenate if batched else np.stack

    def joined(leaf: Any) -> Any:
        column = next(columns)
        return join(column) if column else np.zeros((0, *leaf.shape[1 if batched else 0 :]))

    try:
        read: tuple[Any, ...] = examples.mapped(joined, spec)
    except ValueError:
        raise refusal(hook, "a tf.data pipeline of examples that differ in shape", "pad them to one shape") from None
    return read
