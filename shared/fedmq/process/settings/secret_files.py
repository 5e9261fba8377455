"""Secrets from files: `NAME_FILE` names the file that holds the secret setting `NAME`.

Docker, Kubernetes and systemd hand secrets to a process as files, as a variable of its environment can be read in
`docker inspect` and in `/proc`, and reaches all of its children.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from fedmq.errors import ConfigError

_LOG = logging.getLogger(__name__)
LARGEST = 64 * 1024
"""In bytes. A longer file holds something else."""


def is_secret(field: FieldInfo) -> bool:
    """Returns whether no output shows the setting."""
    return SecretStr.__name__ in str(field.annotation)


def is_from_file(field: FieldInfo) -> bool:
    """Returns whether a file may hold the setting: all secrets, and names of accounts that are given with them."""
    return is_secret(field) or field.alias in ("FEDN_MINIO_ACCESS_KEY",)


def file_variable(name: str) -> str:
    """Returns the variable that names the file of the setting `name`."""
    return f"{name}_FILE"


def given_files(fields: Mapping[str, FieldInfo], given: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yields field, variable and path of each setting that a file holds. `given`: variables that are not empty."""
    for name, field in fields.items():
        variable = str(field.alias)
        if is_from_file(field) and (path := given.get(file_variable(variable))):
            yield name, variable, path


def read_secret(variable: str, text: str, given: Mapping[str, str]) -> str:
    """Returns what the file `text` holds, without the line break at its end. Warns if every account may read the file.

    Raises ConfigError, with the remedy, if the variable is given too, and if the file can't be read, is empty, or holds
    more than one line.
    """
    name = file_variable(variable)
    if given.get(variable):
        raise ConfigError(f"{variable} and {name} are both given: remove one of them")
    content = _content(Path(text).expanduser(), f"{name}={text}")
    secret = content.removesuffix("\n").removesuffix("\r")
    if not secret:
        raise ConfigError(f"{name}={text} is empty: write the value of {variable} into it")
    if any(ord(each) < ord(" ") for each in secret):
        raise ConfigError(f"{name}={text} must hold the value of {variable} in one line and nothing else")
    return secret


def _content(path: Path, named: str) -> str:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # reading a pipe that nobody writes to would wait for ever
            raise ConfigError(f"{named} is {_kind(mode)}: name the file that holds the value")
        with path.open("rb") as file:
            found = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise ConfigError(f"{named} does not exist: write the value into this file, or correct the path") from None
    except OSError as error:
        account = f" (user {os.geteuid()})" if hasattr(os, "geteuid") else ""
        raise ConfigError(
            f"{named} can't be read ({error.strerror}): let the account of this process{account} read it"
        ) from None
    if len(found) > LARGEST:
        raise ConfigError(f"{named} is longer than {LARGEST} bytes: name the file that holds the value alone")
    if mode & stat.S_IROTH and os.name != "nt":
        _LOG.warning("%s can be read by every account of this machine: chmod 600", named)
    try:
        return found.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{named} is no text: write the value in UTF-8") from None


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder, which Docker makes where the file to mount is missing"
    return "no file but a device or a pipe"
