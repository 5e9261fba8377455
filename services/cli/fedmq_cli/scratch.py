"""Files that are written whole or not at all, also on Ctrl-C."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from fedmq_cli.interruption import calling


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yields a path of the same name in a scratch folder beside `path`. Deletes the folder at the end, also on Ctrl-C."""
    with (
        TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True) as folder,
        calling(partial(shutil.rmtree, folder, ignore_errors=True)),
    ):
        yield Path(folder) / path.name
