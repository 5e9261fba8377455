"""What is wrong with settings, in words: variable, value (never a secret's), cause and remedy."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from fedmq.process.settings.secret_files import file_variable, is_secret

# Clearer than pydantic's messages.
_WORDS = {
    "string_pattern_mismatch": "does not have the right form",
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
}


def shown(value: Any) -> str:
    """Returns a value as a variable writes it."""
    if isinstance(value, dict):
        return ",".join(f"{name}={text}" for name, text in value.items())
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


_ACCOUNT = re.compile(r"(://).*@|^(?!.*://)[^=,@]+:.*@", re.DOTALL)
"""Up to the last `@`, as a password that is not percent-encoded may hold any character."""


def without_account(text: str) -> str:
    """Returns a value with `***` for the account and its password, if it is an address with one."""
    return _ACCOUNT.sub(r"\1***@", text)


def complaints(
    fields: Mapping[str, FieldInfo], error: ValidationError, from_files: Collection[str] = ()
) -> Iterator[str]:
    """Yields a line for each invalid value. `from_files`: the fields whose value was read from a file."""
    by_alias = {str(field.alias): name for name, field in fields.items()}
    for fault in error.errors(include_url=False):
        at = str(fault["loc"][0]) if fault["loc"] else ""
        name = by_alias.get(at, at)
        field = fields.get(name)
        words = _WORDS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ").replace("Input should", "must")
        if field is None:
            yield words
            continue
        secret = is_secret(field)
        variable = file_variable(str(field.alias)) if name in from_files else field.alias
        value = "" if secret or name in from_files else f"={without_account(str(fault['input']))}"
        default = field.get_default(call_default_factory=True)
        known = "" if secret or not shown(default) or default is None else f"; default: {shown(default)}"
        yield f"{variable}{value} {words} ({field.description}{known})"
