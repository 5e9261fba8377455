"""What the settings of all roles share: where the values come from, and that all faults are reported at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from dotenv import dotenv_values
from pydantic import ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fedmq.errors import ConfigError
from fedmq.process.settings.faults import complaints
from fedmq.process.settings.secret_files import file_variable, given_files, is_from_file, read_secret

# Read by the compose files, not by a process of FedMQ.
COMPOSE: Mapping[str, str] = {
    "EXAMPLE": "which example's clients compose starts",
    "FEDN_PUBLISH": "address of this machine that compose publishes ports on",
    "FEDN_ME_USERNAME": "account of the Mongo Express page",
    "FEDN_ME_PASSWORD": "password of the account of the Mongo Express page",
}

_LOG = logging.getLogger(__name__)


class Settings(BaseSettings):
    """Base of the roles' settings. Create one with `load`."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    @field_validator("*")
    @classmethod
    def _absolute_path(cls, value: Any) -> Any:
        return value.expanduser().absolute() if isinstance(value, Path) else value

    @classmethod
    def load(cls, **options: Any) -> Self:
        """Loads the settings: from `options` that are not None, else the environment, else `.env`, else the defaults.

        A file that `NAME_FILE` names stands for the secret `NAME`. Raises one `ConfigError` that names every invalid value
        with its remedy. Warns of each unknown `FEDN_*` variable.
        """
        for words in unknown_variables():
            _LOG.warning("%s", words)
        given = {name: value for name, value in options.items() if value is not None}
        faults: list[str] = []
        filed: dict[str, Any] = {}
        variables_here = given_variables()
        for name, variable, path in given_files(cls.model_fields, variables_here):
            if name not in given:
                try:
                    filed[name] = read_secret(variable, path, variables_here)
                except ConfigError as error:
                    faults.append(error.reason)
        try:
            made = cls(**filed, **given)
        except ValidationError as error:
            faults += complaints(cls.model_fields, error, filed)
        if faults:
            raise ConfigError("\n".join(faults))
        return made


def given_variables(environ: Mapping[str, str] | None = None, env_file: Path = Path(".env")) -> dict[str, str]:
    """Returns the variables that are set and not empty, by their names in capitals. The environment precedes the file."""
    sources = dotenv_values(env_file), os.environ if environ is None else environ
    return {name.upper(): value for source in sources for name, value in source.items() if value}


def unknown_variables(environ: Mapping[str, str] | None = None, env_file: Path = Path(".env")) -> list[str]:
    """Returns a sentence for each set `FEDN_*` variable that nothing reads, with the name that was probably meant."""
    given = {*(os.environ if environ is None else environ), *dotenv_values(env_file)}
    known = {*COMPOSE, *_names(Settings)}
    sentences = []
    for name in sorted(given - known):
        if name.startswith("FEDN_"):
            near = get_close_matches(name, known, n=1)
            sentences.append(f"{name} is not a setting" + (f": did you mean {near[0]}?" if near else ""))
    return sentences


def _names(cls: type[Settings]) -> Iterator[str]:
    """Yields the variables of a class and of all that extend it."""
    for field in cls.model_fields.values():
        yield str(field.alias)
        if is_from_file(field):
            yield file_variable(str(field.alias))
    for other in cls.__subclasses__():
        yield from _names(other)
