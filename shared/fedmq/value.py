"""Values: dataclasses that type checkers hold to be frozen, and that are cheap to make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

Class = TypeVar("Class")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(made: type[Class]) -> type[Class]:
    """Makes a dataclass with slots that type checkers hold to be frozen.

    It is not frozen at run time: that would make the many effects and events of a round three times as slow to create.
    """
    return dataclass(slots=True, unsafe_hash=True)(made)
