"""What an extra of the project installs, by the metadata of what is installed here."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def brought_by(extra: str) -> set[str]:
    """Return the canonical names of all distributions that `fedmq[extra]` installs."""

    def requirements(name: str, extras: set[str]) -> Iterator[Requirement]:
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": each}) for each in extras | {""}
            ):
                yield requirement

    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [("fedmq", frozenset({extra}))]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            waiting += [
                (canonicalize_name(each.name), frozenset(each.extras)) for each in requirements(name, set(extras))
            ]
        except PackageNotFoundError:
            continue
    return {name for name, _ in seen}
