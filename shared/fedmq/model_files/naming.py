"""Names of tensors, for frameworks that use lists of arrays or names of their own.

A positional name begins with a number: `0003/kernel` and `3` are the fourth tensor. So a list of arrays, named tensors,
and a model from one of our trainers fit the same network.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from fedmq.errors import ConfigError

_POSITION = re.compile(r"(\d+)(?:/|$)")


def positional(names: Iterable[str]) -> list[str]:
    """Returns each name with its position in front: `weight` as `0000/weight`."""
    return [f"{number:04}/{name}" for number, name in enumerate(names)]


def plain(name: str) -> str:
    """Returns the name without its position: `0000/weight` as `weight`, and `3` as `3`."""
    return re.sub(r"^\d+/(?=.)", "", name)


def is_list(names: Collection[str]) -> bool:
    """Whether these names are the positions of a list: `0` … `n-1`."""
    return {*names} == {str(number) for number in range(len(names))}


def in_order(names: Collection[str]) -> list[str]:
    """Returns the names in the order of a list of arrays: by position if all names have one, else by name."""
    positions = {name: int(match[1]) for name in names if (match := _POSITION.match(name))}
    return sorted(names, key=lambda name: (positions[name] if len(positions) == len(names) else 0, name))


def matched(received: Collection[str], own: Sequence[str]) -> list[str]:
    """Returns the received names in the order of `own`, the positional names of a network. Raises `ConfigError`.

    Names match if they are equal, also without positions, or if the received names are a list of the same length. One side
    may have a wrapper's name before each name, such as `module.` of DataParallel, or `_orig_mod.` of torch.compile.
    """
    if set(received) == set(own):
        return list(own)
    by_plain = {plain(name): name for name in received}
    if len(by_plain) == len(received) == len(own) and by_plain.keys() == {plain(name) for name in own}:
        return [by_plain[plain(name)] for name in own]
    if is_list(received) and len(received) == len(own):
        return in_order(received)
    plain_own = [plain(name) for name in own]
    if len(by_plain) == len(received) == len(own):
        if wrapper := _wrapper(by_plain, plain_own):
            return [by_plain[wrapper + name] for name in plain_own]
        if wrapper := _wrapper(plain_own, by_plain):
            return [by_plain[name.removeprefix(wrapper)] for name in plain_own]
    is_named = len({*plain_own}) == len(own) and len(by_plain) == len(received)
    expected, found = (plain_own, list(by_plain)) if is_named else (list(own), list(received))
    wrong = {
        "it lacks": [name for name in expected if name not in found],
        "it has": [name for name in found if name not in expected],
    }
    faults = [
        f"{what} {', '.join(names[:3])}{' …' if len(names) > 3 else ''}" for what, names in wrong.items() if names
    ]
    raise ConfigError(f"the model of this session is not the one that model() makes: {' and '.join(faults)}")


def _wrapper(wrapped: Collection[str], bare: Collection[str]) -> str:
    """Returns what stands before each name of `wrapped`, with its dot, if the rest are the names of `bare`; else nothing.

    One text before all names leaves their order as it is. So it stands before the first in order.
    """
    prefix = min(wrapped, default="").removesuffix(min(bare, default=""))
    return prefix if prefix.endswith(".") and {prefix + name for name in bare} == {*wrapped} else ""
