"""The part of a page's address after the `?`. It chooses all that a page shows, so that any view is a link. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode


@dataclass(frozen=True, slots=True)
class Query:
    """Chosen values by name. An empty value counts as not given."""

    values: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, search: str | None) -> Query:
        """Parses `?a=1&b=2`. The last value of a repeated name counts."""
        pairs = parse_qs((search or "").removeprefix("?"))
        return cls({name: values[-1] for name, values in pairs.items()})

    def get(self, name: str) -> str | None:
        """Returns the value, or None if it is not given."""
        return self.values.get(name) or None

    def number(self, name: str, default: int = 0) -> int:
        """Returns the value as a whole number, or the default if it is none."""
        text = self.values.get(name, "")
        return int(text) if text.isdecimal() and len(text) < 10 else default

    def names(self, name: str) -> list[str]:
        """Returns the parts of a value that is separated by commas."""
        return [part for part in self.values.get(name, "").split(",") if part]

    def search(self, **changes: str | int | None) -> str:
        """Returns this part of the address with changes; None removes a name."""
        changed = {name: None if value is None else str(value) for name, value in changes.items()}
        merged = {name: value for name, value in {**self.values, **changed}.items() if value}
        return f"?{urlencode(merged)}" if merged else ""
