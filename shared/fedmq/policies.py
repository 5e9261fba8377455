"""A policy from files and options, with errors that say what to change."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from fedmq.errors import ConfigError
from fedmq_schemas.policy import Policy


def checked_policy(values: Mapping[str, Any]) -> Policy:
    """Raises one ConfigError that names every fault."""
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        raise ConfigError("the policy can't be used:\n" + "\n".join(_faults(error))) from None


def with_settings(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """`values` with each `dotted.key=value` set; a value is read as TOML, and as text if it is none.

    Raises ConfigError for a setting of another form, or one that sets a key inside of what is no section.
    """
    result = _copy(values)
    for setting in settings:
        key, equals, text = setting.partition("=")
        words = [word.strip() for word in key.split(".")]
        if not equals or not all(words):
            raise ConfigError(f"--set {setting!r}: write it as key=value or section.key=value")
        section = result
        for word in words[:-1]:
            section = section.setdefault(word, {})
            if not isinstance(section, dict):
                raise ConfigError(f"--set {setting!r}: {word!r} is a value, not a section")
        section[words[-1]] = _value(text.strip())
    return result


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _faults(error: ValidationError) -> Iterable[str]:
    for fault in error.errors(include_url=False, include_context=False):
        where = ".".join(map(str, fault["loc"])) or "policy"
        words = fault["msg"].removeprefix("Value error, ").replace("Input should", "must")
        given = fault["input"]
        shown = f" (not {given!r})" if isinstance(given, str | int | float) else ""
        yield f"  {where}: {words}{shown}"
