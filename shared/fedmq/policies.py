"""Policies from files, options and queries, and as TOML files. Errors list all faults at once. Pure."""

from __future__ import annotations

import json
import re
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from fedmq.errors import ConfigError
from fedmq_schemas.policy import Policy, Section

_WIDTH = 100
_MOST_BITS = 128
_NUMBER = re.compile(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""Numbers as people write them: TOML has no `.5` and no `1.`."""
_WORDS = {"a valid dictionary": "a section of keys", "a valid tuple": "a list"}
"""Words of session files, by the words of Python."""


def checked_policy(values: Mapping[str, Any]) -> Policy:
    """Returns the policy with these values. Raises one `ConfigError` that lists all faults."""
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        raise ConfigError("the policy can't be used:\n" + "\n".join(f"  {fault}" for fault in faults(error))) from None


def faults(error: ValidationError) -> Iterator[str]:
    """Yields a line for each fault: the key, what is wrong, and the given value."""
    for fault in error.errors(include_url=False, include_context=False):
        where = ".".join(map(str, fault["loc"])) or "policy"
        given = fault["input"]
        shown = f" (not {_shown(given)})" if isinstance(given, str | int | float) else ""
        yield f"{where}: {words_of(fault)}{shown}"


def words_of(fault: Mapping[str, Any]) -> str:
    """Returns what is wrong with one value, from an error of pydantic, without the terms of Python."""
    if fault["type"] == "string_unicode":
        return "must be a text of whole characters, and this one holds half a surrogate pair"
    if fault["type"] == "string_pattern_mismatch" and "\0" in fault["input"]:
        return "must not contain the character NUL"
    words = str(fault["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    for name, own in _WORDS.items():
        words = words.replace(name, own)
    return words


def with_settings(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Returns `values` with each setting `dotted.key=value`, in TOML, or else a number or a text. Raises `ConfigError`."""
    result = _copy(values)
    for setting in settings:
        key, equals, text = setting.partition("=")
        words = [word.strip() for word in key.split(".")]
        if not equals or not all(words):
            raise ConfigError(f"{setting!r} sets nothing: write it as key=value or section.key=value")
        section = result
        for word in words[:-1]:
            section = section.setdefault(word, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{setting!r}: {word!r} is a value, not a section")
        section[words[-1]] = _value(text.strip())
    return result


def from_toml(text: str) -> dict[str, Any]:
    """Returns the values of a session file. Raises `ConfigError` with line and column."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of more than 4,300 digits, brackets in brackets
        raise ConfigError(f"not a TOML file: {error}") from error


def to_toml(policy: Policy) -> str:
    """Returns the policy as a session file that `from_toml` reads. Leaves out unset keys."""
    return "\n".join(_table(policy.model_dump(mode="json"), ())).strip() + "\n"


def template() -> str:
    """Returns a session file with every key, its meaning and its default, all commented out."""
    head = "# A session file: `fedmq start FILE`. Keys that are left out have the default shown."
    return "\n".join([head, *_explained(Policy, ())]) + "\n"


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _shown(given: str | float) -> str:
    if isinstance(given, int) and given.bit_length() > _MOST_BITS:  # Python refuses to write some as decimals
        return f"an integer of {given.bit_length()} bits"
    text = repr(given)
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}… of {len(text)} characters"


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # a number of more than 4,300 digits, brackets in brackets
        return float(text) if _NUMBER.fullmatch(text) else text


def _table(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping) and value is not None}
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping) and value}
    if path and (plain or not tables):
        yield f"\n[{'.'.join(map(_key, path))}]"
    for key, value in plain.items():
        yield f"{_key(key)} = {_literal(value)}"
    for key, value in tables.items():
        yield from _table(value, (*path, key))


def _key(key: str) -> str:
    is_bare = key.isascii() and key.replace("_", "a").replace("-", "a").isalnum()
    return key if is_bare else _text(key)


def _literal(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            return _text(value)
        case Mapping():
            inner = ", ".join(f"{_key(k)} = {_literal(v)}" for k, v in value.items() if v is not None)
            return f"{{ {inner} }}" if inner else "{}"
        case list() | tuple():
            return f"[{', '.join(_literal(item) for item in value if item is not None)}]"
    raise ConfigError(f"{value!r} can't be written as TOML")


def _text(value: str) -> str:
    """Quotes a text. TOML has the same escapes as JSON, and also requires one for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _explained(section: type[Section], path: tuple[str, ...]) -> Iterator[str]:
    later: list[tuple[str, FieldInfo]] = []
    for name, field in section.model_fields.items():
        if _section_of(field) or _default(field) == "{}":
            later.append((name, field))
            continue
        yield ""
        yield from _comment(field.description or "")
        yield f"# {name} = {_default(field)}"
    for name, field in later:
        inner = _section_of(field)
        yield ""
        yield from _comment((inner.__doc__ if inner else field.description) or "")
        yield f"[{'.'.join((*path, name))}]"
        if inner:
            yield from _explained(inner, (*path, name))


def _section_of(field: FieldInfo) -> type[Section] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return "  # unset" if value is None else _literal(value)
