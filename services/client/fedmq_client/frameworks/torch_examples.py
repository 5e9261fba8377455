"""The value of a TorchTrainer's `data()`: a dataset of PyTorch, its number of examples, and batches on a device."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from fedmq.errors import ConfigError
from fedmq_client.checks import kind
from fedmq_client.frameworks import examples
from fedmq_client.frameworks.examples import refusal

REMEDY = "return x, y, or a map-style Dataset"


class TensorRows(Dataset[Any]):
    """Examples that are rows of tensors. An example has the form of the whole: `x, y` for `x, y`."""

    def __init__(self, tree: Any, hook: str) -> None:
        """Raises ConfigError if the tensors differ in length."""
        self.tree = tree
        self._length = examples.length(tree, hook)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        return examples.mapped(lambda tensor: tensor[index], self.tree)


class TorchExamples:
    """Examples that are read in batches."""

    def __init__(self, found: Any, hook: str, device: torch.device, floats: torch.dtype = torch.float32) -> None:
        """Raises ConfigError if `found`, which `hook` returned, holds no examples that can be counted and shuffled.

        Floats of arrays become `floats`.
        """
        self._device = device
        self._collate: Any = default_collate
        self._batches: BatchSampler | None = None
        if isinstance(found, DataLoader):
            _refuse_choosing(found, hook)
            if isinstance(found.batch_sampler, BatchSampler):
                self._batches = found.batch_sampler
            self._collate, found = found.collate_fn, found.dataset
        if isinstance(found, IterableDataset):
            raise refusal(
                hook,
                f"an IterableDataset ({type(found).__name__})",
                "its examples can't be counted or shuffled; return list(it), or a map-style Dataset",
            )
        self.dataset: Any = found if _is_dataset(found) else _rows(found, hook, floats)
        try:
            self._length = len(self.dataset)
        except TypeError:
            raise refusal(hook, f"{kind(found)} without a length", "write its __len__") from None
        self._hook = hook

    def __len__(self) -> int:
        return self._length

    def check(self) -> None:
        """Raises ConfigError if the first examples make no batch."""
        if not self._length or isinstance(self.dataset, TensorRows):
            return
        items = [self.dataset[index] for index in range(min(2, self._length))]
        try:
            self._collate(items)
        except (TypeError, ValueError, RuntimeError, KeyError) as error:
            raise refusal(
                self._hook,
                f"{kind(self.dataset)} whose first examples make no batch ({error})",
                "let each example be numbers or tensors of one shape, or return a DataLoader with a collate_fn",
            ) from error

    def unused(self, batch_size: int) -> str:
        """Returns a note if the user's DataLoader has other batches than these, which are made here; else an empty text."""
        own = self._batches
        if own is None:
            return ""
        use = "return the DataLoader from loader() to use its batches"
        if own.batch_size != batch_size:
            size = f"batch_size {own.batch_size} is not used but {batch_size}"
            return f"the DataLoader's {size}: --set train.batch_size={own.batch_size}, or {use}"
        if own.drop_last and self._length % batch_size:
            return f"the DataLoader's drop_last is not used, as each example is trained on: {use}"
        return ""

    def batches(self, order: np.ndarray, size: int) -> Iterator[tuple[Any, int]]:
        """Yields batches in this order, each with its number of examples."""
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            if isinstance(self.dataset, TensorRows):
                batch = self.dataset[torch.from_numpy(chosen)]
            else:
                batch = self._collate([self.dataset[int(index)] for index in chosen])
            yield _moved(batch, self._device), len(chosen)

    def loaded(self, loader: Iterable[Any]) -> Iterator[tuple[Any, int]]:
        """Yields the batches of a user's loader, each with its number of examples."""
        for batch in loader:
            yield _moved(batch, self._device), _size(batch)


def _is_dataset(found: Any) -> bool:
    """Whether `found` gives an example for an index: also a list of examples, and what is no Dataset by class."""
    if isinstance(found, list):
        return bool(found) and all(isinstance(example, (tuple, dict)) for example in found)
    if isinstance(found, Dataset):
        return True
    plain = isinstance(found, (tuple, Mapping, str, bytes)) or hasattr(found, "__array__") or examples.is_sparse(found)
    return not plain and hasattr(found, "__getitem__") and hasattr(found, "__len__")


def _rows(found: Any, hook: str, floats: torch.dtype) -> TensorRows:
    examples.refuse_other(found, hook, REMEDY)
    if isinstance(found, (tuple, list, Mapping)):
        if not found:
            raise refusal(hook, f"an empty {type(found).__name__}", f"{REMEDY}, also where there are no examples")
        parts = found.items() if isinstance(found, Mapping) else enumerate(found)
        checked = {
            name: examples.checked(
                part, hook, f"part {name!r}", lambda value, where: _tensor(value, hook, where, floats)
            )
            for name, part in parts
        }
        if isinstance(found, Mapping):
            return TensorRows(checked, hook)
        values = tuple(checked.values())
        return TensorRows(values if len(values) > 1 else values[0], hook)
    if not hasattr(found, "__array__") and not examples.is_sparse(found):
        raise refusal(hook, kind(found), REMEDY)
    return TensorRows(_tensor(found, hook, "examples", floats), hook)


def _refuse_choosing(loader: DataLoader[Any], hook: str) -> None:
    """Raises ConfigError if a loader chooses or repeats examples: batches are ours, so its choice would be lost."""
    plain = (
        loader.batch_sampler is not None
        and type(loader.batch_sampler) is BatchSampler
        and (
            type(loader.sampler) is SequentialSampler
            or (type(loader.sampler) is RandomSampler and loader.sampler.num_samples == len(loader.sampler.data_source))
        )
        and not getattr(loader.sampler, "replacement", False)
    )
    if not plain and not isinstance(loader.dataset, IterableDataset):
        raise refusal(
            hook,
            f"a DataLoader with batches of its own ({type(loader.sampler).__name__})",
            "return its dataset, or torch.utils.data.Subset(dataset, indices), and the DataLoader from loader()",
        )


def _tensor(value: Any, hook: str, where: str, floats: torch.dtype) -> Tensor:
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise refusal(hook, f"a sparse tensor as {where}", "make it dense with .to_dense()")
        if value.ndim == 0:
            raise refusal(hook, f"a single value as {where}", "return a tensor with a row per example")
        tensor = value.detach()
    elif examples.is_sparse(value):
        raise refusal(
            hook,
            f"a sparse matrix ({type(value).__name__}) as {where}",
            "make it dense with .toarray(), or return a Dataset that makes each row dense",
        )
    else:
        tensor = torch.from_numpy(np.array(_native(examples.array(value, hook, where, examples.NUMBERS + "c"))))
    if tensor.is_complex():
        return tensor
    if tensor.is_floating_point():
        return tensor.to(floats)
    return tensor if tensor.dtype == torch.bool else tensor.long()


def _native(array: np.ndarray) -> np.ndarray:
    """Returns the array in this machine's byte order, the only one that PyTorch takes."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _size(batch: Any) -> int:
    """Returns the number of examples in a batch: the length of its first tensor. Raises ConfigError if it has none."""
    for tensor in _tensors(batch):
        if tensor.ndim:
            return len(tensor)
    raise ConfigError(f"loader() gave {kind(batch)} as a batch: give tensors, or tuples or dicts of them")


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (Mapping, tuple, list)):
        for part in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _tensors(part)


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: _moved(value, device) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        moved = [_moved(value, device) for value in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)
    return batch
