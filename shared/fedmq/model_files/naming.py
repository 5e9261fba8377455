"""What the tensors of a model are called, where frameworks think of a list or of names of their own.

A name is positional where it begins with a number: `0003/kernel` is the fourth tensor, and `3` is too. So a model that
came as a list of arrays, as named tensors, or from a trainer of ours fits the same network.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from fedmq.errors import ConfigError

_POSITION = re.compile(r"(\d+)(?:/|$)")


def positional(names: Iterable[str]) -> list[str]:
    """Each name after its position: `weight` as `0000/weight`."""
    return [f"{number:04}/{name}" for number, name in enumerate(names)]


def plain(name: str) -> str:
    """The name without its position: `0000/weight` as `weight`, and `3` as `3`."""
    return re.sub(r"^\d+/(?=.)", "", name)


def is_list(names: Collection[str]) -> bool:
    """Whether these are the positions of a list: `0` … `n-1`, each once."""
    return {*names} == {str(number) for number in range(len(names))}


def in_order(names: Collection[str]) -> list[str]:
    """The order in which a list of arrays holds these tensors: by position if all have one, else by name."""
    positions = {name: int(match[1]) for name in names if (match := _POSITION.match(name))}
    return sorted(names, key=lambda name: (positions[name] if len(positions) == len(names) else 0, name))


def matched(received: Collection[str], own: Sequence[str]) -> list[str]:
    """The received names in the order of `own`, a network's positional names.

    They fit if they are the same, if they are the same without positions, or if they are a list of as many. Raises
    ConfigError, with the first three names that only one of them has, if they do not.
    """
    if set(received) == set(own):
        return list(own)
    by_plain = {plain(name): name for name in received}
    if len(by_plain) == len(received) == len(own) and by_plain.keys() == {plain(name) for name in own}:
        return [by_plain[plain(name)] for name in own]
    if is_list(received) and len(received) == len(own):
        return in_order(received)
    wrong = sorted(set(received) ^ set(own))
    raise ConfigError(
        f"the model of this session is not the one that model() makes; only one of them has {', '.join(wrong[:3])}"
    )
