"""Checks what a session configures of a trainer, for all frameworks. Suggests a key for a wrong one."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedmq.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Configuration:
    """The keys of `task.config` that the trainers for frameworks read."""

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float | None = None
    """None: as the user's code sets it."""
    proximal_mu: float = 0.0
    """FedProx (Li et al. 2020): how strongly weights are held to the received ones; 0 is FedAvg."""


def read(config: Mapping[str, Any], further: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> Configuration:
    """Returns the configuration. Raises ConfigError for an unknown key or an impossible value.

    `further`: keys of the user's subclass, which are not checked. `without`: keys that the framework does not support.
    """
    own = tuple(name for name in Configuration.__dataclass_fields__ if name not in without)
    for key in config:
        if key not in own + further:
            near = difflib.get_close_matches(key, own + further, 1)
            hint = f"did you mean train.{near[0]}? " if near else ""
            known = ", ".join(f"train.{name}" for name in own + further)
            raise ConfigError(f"unknown configuration 'train.{key}': {hint}known are {known}")
    found = Configuration(**{key: value for key, value in config.items() if key in own})
    for key in ("epochs", "batch_size"):
        value = getattr(found, key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{key} is {value!r}: give an int of 1 or more")
    for key, lowest in (("learning_rate", "above 0"), ("proximal_mu", "of 0 or more")):
        value = getattr(found, key)
        if value is None and key == "learning_rate":
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or value < 0 or (value == 0 and lowest == "above 0"):
            raise ConfigError(f"{key} is {value!r}: give a number {lowest}")
    return found
