"""The value that each setting has here and now, and where it is set, for people. Secrets are hidden."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values
from pydantic import SecretStr

from fedmq.errors import ConfigError
from fedmq.process.settings import COMPOSE, ROLES, Variable, variables

HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class CurrentSetting:
    """A variable with its value as it is written; empty if there is neither a value nor a default.

    `source`: `environment`, `.env` or `default`.
    """

    variable: Variable
    value: str
    source: str


def current_settings(
    role: str | None, environ: Mapping[str, str] | None = None, env_file: Path = Path(".env")
) -> list[CurrentSetting]:
    """Returns the settings that a role reads, or all if it is None, sorted by name. Values are not checked.

    As for `Settings.load`, the environment precedes the file, an empty value counts as unset, and a name's case does not
    matter. Raises ConfigError for an unknown role.
    """
    roles = [*ROLES, "compose"]
    if role is not None and role not in roles:
        raise ConfigError(f"there is no role {role!r}: {', '.join(roles)}")
    given = {
        ".env": {name.upper(): value for name, value in dotenv_values(env_file).items() if value},
        "environment": {
            name.upper(): value for name, value in (os.environ if environ is None else environ).items() if value
        },
    }
    secret = _secrets()
    found = []
    for variable in variables():
        if role is None or role in variable.roles:
            sources = [source for source in ("environment", ".env") if variable.name in given[source]]
            value = given[sources[0]][variable.name] if sources else variable.default
            shown = HIDDEN if value and variable.name in secret else value
            found.append(CurrentSetting(variable, shown, sources[0] if sources else "default"))
    return found


def _secrets() -> set[str]:
    """Returns the names of the variables that no output shows."""
    fields = [field for cls in ROLES.values() for field in cls.model_fields.values()]
    secret = {str(field.alias) for field in fields if SecretStr.__name__ in str(field.annotation)}
    return secret | {name for name in COMPOSE if name.endswith("PASSWORD")}
