"""Every variable that is read, and which of them code that is not ours must not see."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from pydantic import SecretStr

from fedmq.process.settings.base import COMPOSE
from fedmq.process.settings.faults import shown
from fedmq.process.settings.roles import ROLES
from fedmq.process.settings.secret_files import file_variable, is_from_file, is_secret

HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable, for people. `default` is empty if there is none, and `***` for a secret."""

    name: str
    default: str
    description: str
    roles: tuple[str, ...]
    is_secret: bool = False


def variables() -> list[Variable]:
    """Returns every variable that is read, sorted by name."""
    found = [
        Variable(name, "", description, ("compose",), name.endswith("PASSWORD"))
        for name, description in COMPOSE.items()
    ]
    fields = {
        str(field.alias): (field, tuple(role for role, cls in ROLES.items() if name in cls.model_fields))
        for cls in ROLES.values()
        for name, field in cls.model_fields.items()
    }
    for name, (field, roles) in fields.items():
        default = field.get_default(call_default_factory=True)
        text = "" if default is None else HIDDEN if isinstance(default, SecretStr) else shown(default)
        found.append(Variable(name, text, field.description or "", roles, is_secret(field)))
        if is_from_file(field):
            found.append(Variable(file_variable(name), "", f"file that holds {name}, instead of that variable", roles))
    return sorted(found, key=lambda variable: variable.name)


@cache
def _names_of_secrets() -> frozenset[str]:
    listed = variables()
    names = {variable.name for variable in listed}
    hidden = {each.name for each in listed if each.is_secret or file_variable(each.name) in names}
    return frozenset(hidden | {file_variable(name) for name in hidden})


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns an environment for code that is not ours: it has no secret of FedMQ, and no path of a file with one."""
    return {name: value for name, value in environ.items() if name.upper() not in _names_of_secrets()}


@contextmanager
def secrets_hidden() -> Iterator[None]:
    """Removes from the environment of this process, meanwhile, what `without_secrets` leaves out."""
    kept = without_secrets(os.environ)
    hidden = {name: value for name, value in os.environ.items() if name not in kept}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
