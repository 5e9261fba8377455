"""The identity of a process: a name that survives restarts, and a state folder that no other process shares."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fedmq.errors import ConfigError
from fedmq.process.lock import try_lock

MOST_SLOTS = 1000


@dataclass(frozen=True, slots=True)
class Identity:
    """A process's name and state folder. No other process gets the folder while `lock` is open."""

    name: str
    folder: Path
    lock: IO[str]

    def close(self) -> None:
        """Releases the folder."""
        self.lock.close()


def claim(root: Path, role: str, name: str | None, base: str) -> Identity:
    """Claims a state folder for this process: `root/role/NAME`, or without a name the first free of `root/role/1`, ….

    Such a folder keeps a name that is drawn once: `base` and six random characters. Raises ConfigError if another process
    holds the named folder, or if it can't be written.
    """
    slots = [name] if name is not None else [str(number) for number in range(1, MOST_SLOTS)]
    for slot in slots:
        folder = root / role / slot
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "lock").open("a")
        except OSError as error:
            raise ConfigError(f"the state folder {folder} can't be written ({error}): see FEDN_STATE_DIR") from error
        if try_lock(lock):
            return Identity(name or _kept_name(folder / "name", base), folder, lock)
        lock.close()
    raise ConfigError(f"another {role} named {name} runs in {root}: give this one another name or FEDN_STATE_DIR")


def _kept_name(path: Path, base: str) -> str:
    if path.exists():
        return path.read_text().strip()
    name = f"{base[:57]}-{secrets.token_hex(3)}"
    replacement = path.with_suffix(".new")
    replacement.write_text(f"{name}\n")
    os.replace(replacement, path)
    return name


def process_name() -> str:
    """Returns a name that no other process has, on any host and at any time. It is the holder of a lease."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
