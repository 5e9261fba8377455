"""The command that runs now, as text to run again: the same one, or with other values of some options."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedmq_cli.output import short

FOLDER = "--state-dir"


def same_command(folder: Path) -> str:
    """Returns this command again, on the same state and data."""
    words = sys.argv[1:]
    has_folder = any(word.partition("=")[0] == FOLDER for word in words)
    return _text(words if has_folder else [*words, FOLDER, short(str(folder))])


def command_with(option: str, value: str) -> str:
    """Returns this command again, on the same data, with another value of one option."""
    return _text([*_without(option, sys.argv[1:]), option, value])


def fresh_folder(folder: Path) -> Path:
    """Returns a path beside `folder` at which there is nothing yet: its name with the next free number."""
    number = 2
    while (found := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return found


def _text(words: Sequence[str]) -> str:
    data = os.environ.get("FEDN_DATA_PATH")
    prefix = f"FEDN_DATA_PATH={shlex.quote(data)} " if data else ""
    return prefix + shlex.join(["fedmq", *words])


def _without(option: str, words: Sequence[str]) -> Iterator[str]:
    is_value = False
    for word in words:
        if is_value:
            is_value = False
        elif word == option:
            is_value = True
        elif not word.startswith(f"{option}="):
            yield word
