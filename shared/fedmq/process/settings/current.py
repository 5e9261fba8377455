"""The value that each setting has here and now, and where it is set, for people. Hides secrets, also in addresses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from fedmq.errors import ConfigError
from fedmq.process.settings.faults import without_account
from fedmq.process.settings.roles import ROLES
from fedmq.process.settings.secret_files import file_variable
from fedmq.process.settings.variables import HIDDEN, Variable, variables


@dataclass(frozen=True, slots=True)
class CurrentSetting:
    """A variable with its value as it is written; empty if there is neither a value nor a default.

    `source`: `environment`, `.env`, `default`, or the variable that names the file with the value.
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
    found = []
    for variable in variables():
        if role is None or role in variable.roles:
            sources = [source for source in ("environment", ".env") if variable.name in given[source]]
            value, source = variable.default, "default"
            if sources:
                value, source = given[sources[0]][variable.name], sources[0]
            elif any(file_variable(variable.name) in each for each in given.values()):
                value, source = HIDDEN, file_variable(variable.name)
            shown = HIDDEN if value and variable.is_secret else without_account(value)
            found.append(CurrentSetting(variable, shown, source))
    return found
