"""Checks of folders: the process's own state, the client's data and its package."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from fedmq.errors import ConfigError
from fedmq.process.settings import ClientSettings


def state_folder(folder: Path) -> str:
    """Makes the folder, and writes a file there."""
    path = folder / f".doctor-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        path.unlink()
    except OSError as error:
        raise ConfigError(
            f"{folder} can't be written ({error.strerror}): mend its owner, or set FEDN_STATE_DIR"
        ) from None
    return f"{folder.resolve()} can be written"


def data(folder: Path | None) -> str:
    """Looks whether the trainer can read its data."""
    if folder is None:
        return "FEDN_DATA_PATH is not set: the trainer brings its own data"
    if not folder.exists():
        raise ConfigError(f"{folder} does not exist: correct FEDN_DATA_PATH, or mount the data there")
    if not os.access(folder, os.R_OK | (os.X_OK if folder.is_dir() else 0)):
        raise ConfigError(f"{folder} can't be read by this account: change its permissions, or FEDN_DATA_PATH")
    return f"{folder} can be read"


def package(settings: ClientSettings) -> str:
    """Loads the package."""
    from fedmq_client.packages.package import load

    found = load(settings.package)
    return f"{settings.package}, sha256 {found.sha256[:12]}…"
