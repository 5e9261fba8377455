"""A private RabbitMQ 4, which `.ci/rabbitmq-4` has installed into a folder and which runs there as its root.

The program sees no file outside of that folder, so its data and logs are there as well. They stay until a later process
starts one.
"""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

from support.servers.certificates import Pair
from support.servers.rabbitmq import SERVER, RabbitmqServer

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
ROOT = Path(os.environ.get("FEDMQ_RABBITMQ_4") or _CACHE / "fedmq-tests" / "rabbitmq-4").resolve()
_DATA = ROOT / "srv"


def missing() -> str | None:
    """Returns why RabbitMQ 4 can't be started on this machine, or None if it can."""
    if os.geteuid() != 0:
        return "RabbitMQ 4 needs chroot, which only root may call"
    installed = (ROOT / SERVER.relative_to("/")).exists()
    return None if installed else f"RabbitMQ 4 is not installed in {ROOT}: apt-get install debootstrap; .ci/rabbitmq-4"


class Rabbitmq4Server(RabbitmqServer):
    """As `RabbitmqServer`. `folder` becomes a link to its data."""

    # By default it reads both from /proc, which is not there.
    _more_settings = "vm_memory_calculation_strategy = allocated\ntotal_memory_available_override_value = 4GB\n"
    _numbers = itertools.count()

    def __init__(self, folder: Path, tls: Pair | None = None, *, has_exporter: bool = False) -> None:
        _remove_left_data()
        data = _DATA / f"{os.getpid()}-{next(self._numbers)}"
        data.mkdir(parents=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            folder.rmdir()
        folder.symlink_to(data)
        super().__init__(data, tls, has_exporter=has_exporter)

    def seen(self, path: Path) -> str:
        """Returns the path from the root that the server has."""
        return str(Path("/") / path.resolve().relative_to(ROOT))

    def _command(self, *words: str) -> list[str]:
        return ["chroot", str(ROOT), *words]


def _remove_left_data() -> None:
    """Deletes the data of processes that have ended."""
    for data in _DATA.iterdir():
        if not Path("/proc", data.name.partition("-")[0]).exists():
            shutil.rmtree(data, ignore_errors=True)
