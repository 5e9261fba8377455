"""A sandbox with its REST API, in this process: what curl, the command and Alliance meet."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import urllib3

from fedmq_sandbox import Sandbox
from fedmq_sandbox.serving import api_of
from support.waiting import SECONDS, until

PACKAGE = Path(__file__).parents[3] / "examples" / "numpy_regression" / "client"


@dataclass(frozen=True, slots=True)
class Served:
    """A running alliance, and where its API is."""

    url: str
    box: Sandbox


@contextlib.contextmanager
def served(folder: Path, package: Path = PACKAGE, *, clients: int = 3, combiners: int = 2) -> Iterator[Served]:
    """Trainers run in this process. All clients have attached when it is given out."""
    alliance = Sandbox(package, clients=clients, combiners=combiners, workers=0, state_dir=folder, random_seed=1)
    with alliance as box, api_of(box, 0) as server:
        ready = threading.Event()

        def start() -> None:
            server.start()
            ready.set()

        thread = threading.Thread(target=lambda: box.serve(start), name="sandbox")
        thread.start()
        try:
            assert ready.wait(SECONDS)
            _wait_for_clients(server.url, clients + 1)
            yield Served(server.url, box)
        finally:
            box.interrupt()
            thread.join(SECONDS)
            assert not thread.is_alive()


def _wait_for_clients(url: str, wanted: int) -> None:
    with urllib3.PoolManager() as pool:
        present = f"{url}/clients?state=present"
        until(lambda: len(pool.request("GET", present).json()["items"]) >= wanted, f"{wanted} clients are present")
