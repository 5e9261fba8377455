"""Prepares a PyTorch module for one task: freezes tensors, and lets batch norm accept a single example."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from torch import nn

from fedmq.errors import ConfigError

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def freeze(model: nn.Module, frozen: Sequence[bool]) -> None:
    """Excludes tensors from training. `frozen` says of each tensor of the state dict, in order, whether it is frozen.

    - Frozen parameters have no gradient.
    - A module is in eval mode if all of its tensors are frozen, or its running statistics are: else batch norm would
      normalize by batches, and go on to count. Modules without tensors, such as a dropout outside of such a module, are not.
    - Raises ConfigError if one name of a tensor that has several is frozen, and another is not.
    """
    if not any(frozen):
        return
    names = {name for name, is_frozen in zip(model.state_dict(), frozen, strict=True) if is_frozen}
    tied: dict[nn.Parameter, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        tied[parameter].append(name)
    for parameter, own in tied.items():
        if not names.isdisjoint(own):
            if not names.issuperset(own):
                raise ConfigError(f"{' and '.join(own)} are one tensor: let the policy freeze all of them or none")
            parameter.requires_grad_(False)
    holding: set[str] = set()
    trained: set[str] = set()
    for name in model.state_dict():
        parts = name.split(".")
        modules = {".".join(parts[:end]) for end in range(len(parts))}
        holding |= modules
        if name not in names:
            trained |= modules
    for name, module in model.named_modules():
        if name in holding - trained or f"{name}.running_mean".removeprefix(".") in names:
            module.eval()


def accept_single_values(model: nn.Module) -> None:
    """Lets batch norm in training mode use its running statistics where a batch has one value a channel.

    One value has no variance, and PyTorch raises an error for it. A last batch may hold a single example.
    """
    for module in model.modules():
        if module.training and isinstance(module, BATCH_NORMS) and module.running_mean is not None:
            single = _Single()
            module.register_forward_pre_hook(single.before)
            module.register_forward_hook(single.after)


class _Single:
    """Puts one module into eval mode during a call with one value a channel."""

    def __init__(self) -> None:
        self._changed = False

    def before(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module.training and inputs[0].numel() == inputs[0].shape[1]:
            self._changed = True
            module.eval()

    def after(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if self._changed:
            self._changed = False
            module.train()
