"""Who a process is: a name that survives restarts, and a state folder that no other process shares."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fedmq.errors import ConfigError

MOST_SLOTS = 1000


@dataclass(frozen=True, slots=True)
class Identity:
    """`folder` is this process's own as long as `lock` is open, which the process's death closes too."""

    name: str
    folder: Path
    lock: IO[str]

    def close(self) -> None:
        self.lock.close()


def claim(root: Path, role: str, name: str | None, base: str) -> Identity:
    """The folder `root/role/…` for a name that was given, or the first one that no process holds, with the name that was
    drawn for it once: `base` and six random characters.

    Raises ConfigError if another process holds the named folder, or if it can't be written.
    """
    slots = [name] if name is not None else [str(number) for number in range(1, MOST_SLOTS)]
    for slot in slots:
        folder = root / role / slot
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "lock").open("w")
        except OSError as error:
            raise ConfigError(f"the state folder {folder} can't be written ({error}): see FEDN_STATE_DIR") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return Identity(name or _kept_name(folder / "name", base), folder, lock)
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
    """Names this process alone, among all of all hosts and times: a lease's holder."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
