"""The part of a page's address after the `?`: all that a page shows is chosen by it, so any view is a link. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode


@dataclass(frozen=True, slots=True)
class Query:
    """Chosen values by name. An empty one counts as not given."""

    values: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, search: str | None) -> Query:
        """From `?a=1&b=2`; of a name that is given twice the last counts."""
        pairs = parse_qs((search or "").removeprefix("?"))
        return cls({name: values[-1] for name, values in pairs.items()})

    def get(self, name: str) -> str | None:
        return self.values.get(name) or None

    def number(self, name: str, default: int = 0) -> int:
        """A whole number; the default where it is not one."""
        text = self.values.get(name, "")
        return int(text) if text.isdecimal() and len(text) < 10 else default

    def names(self, name: str) -> list[str]:
        """A list, written with commas."""
        return [part for part in self.values.get(name, "").split(",") if part]

    def search(self, **changes: str | int | None) -> str:
        """The address part with these changes; None takes a name out."""
        changed = {name: None if value is None else str(value) for name, value in changes.items()}
        merged = {name: value for name, value in {**self.values, **changed}.items() if value}
        return f"?{urlencode(merged)}" if merged else ""
