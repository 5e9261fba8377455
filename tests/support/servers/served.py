"""A sandbox with its REST API, in this process: what curl, the command and Alliance meet."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import urllib3

from fedmq_sandbox import Sandbox
from fedmq_sandbox.serving import api_of

PACKAGE = Path(__file__).parents[3] / "examples" / "numpy_regression" / "client"
UP_SECONDS = 30.0


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
            assert ready.wait(UP_SECONDS)
            _wait_for_clients(server.url, clients + 1)
            yield Served(server.url, box)
        finally:
            box.interrupt()
            thread.join(UP_SECONDS)
            assert not thread.is_alive()


def _wait_for_clients(url: str, wanted: int) -> None:
    """Polls the list of present clients. Fails after `UP_SECONDS`."""
    ends = time.monotonic() + UP_SECONDS
    with urllib3.PoolManager() as pool:
        while len(pool.request("GET", f"{url}/clients?state=present").json()["items"]) < wanted:
            assert time.monotonic() < ends, f"{wanted} clients were not present in time"
            threading.Event().wait(0.01)
