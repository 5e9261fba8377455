"""Prepares a PyTorch module for one task: freezes tensors, and lets batch norm accept a single example. And losses."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

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
    """Lets batch norm accept one value a channel, as the last batch may hold a single example.

    One value has no variance, and PyTorch raises an error for it. In training mode batch norm uses its running statistics
    then. Without any, the value is normalized to zero.
    """
    for module in model.modules():
        if not isinstance(module, BATCH_NORMS):
            continue
        hooks = _Doubled() if module.running_mean is None else _Single()
        module.register_forward_pre_hook(hooks.before, with_kwargs=True)
        module.register_forward_hook(hooks.after)


class _Doubled:
    """Repeats the only value of each channel for one module: the mean is then the value, and the variance zero."""

    def __init__(self) -> None:
        self._changed = False

    def before(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        [found] = (*inputs, *named.values())
        self._changed = found.numel() == found.shape[1]
        return ((found.repeat(2, *[1] * (found.ndim - 1)),), {}) if self._changed else None

    def after(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return output[:1] if self._changed else None


class _Single:
    """Puts one module into eval mode during a call with one value a channel."""

    def __init__(self) -> None:
        self._changed = False

    def before(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        [found] = (*inputs, *named.values())
        if module.training and found.numel() == found.shape[1]:
            self._changed = True
            module.eval()

    def after(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if self._changed:
            self._changed = False
            module.train()


def floats_of(model: nn.Module) -> torch.dtype:
    """Returns the dtype of a batch's floats: float64 if all of the model's floating parameters are, else float32."""
    found = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return torch.float64 if found == {torch.float64} else torch.float32


def single(hook: str, value: Any) -> Any:
    """Returns a loss or metric. Raises ConfigError for a tensor of more than one value."""
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ConfigError(f"{hook}() returned a tensor of shape {tuple(value.shape)}: return its mean over the batch")
    return value


def proximal(loss: Tensor, mu: float, parameters: list[nn.Parameter], anchors: list[Tensor]) -> Tensor:
    """Adds mu / 2 * |w - w0|^2 to the loss (FedProx, Li et al. 2020); w0 are the received weights."""
    for parameter, anchor in zip(parameters, anchors, strict=False):
        loss = loss + mu / 2 * (parameter - anchor).square().sum()
    return loss
