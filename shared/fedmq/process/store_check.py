"""Checks again and again that a store answers."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fedmq.errors import FedMQError, Transient
from fedmq.runtime.stalls import Stalls

PERIOD = 2.0
"""Seconds between two checks."""


class StoreCheck:
    """Sends a small request to a store every 2 s, on a thread of its own, and notes in `stalls` while there is no answer.

    A hung server is thus known long before the timeout of a large transfer. `request` must change nothing. A refusal is an
    answer.

    - `store`: the name in stalls and metrics.
    - `server`: the name in the reason, such as `MongoDB at HOST`.
    """

    def __init__(self, store: str, server: str, request: Callable[[], object], stalls: Stalls) -> None:
        self.store = store
        self._request = request
        self._stalls = stalls
        self._server = server
        self._fault = ""
        self._stopped = threading.Event()

    def start(self) -> None:
        """Starts the thread. It is a daemon, as a request to a hung server may last for minutes."""
        threading.Thread(target=self._run, name=f"check {self.store}", daemon=True).start()

    def stop(self) -> None:
        """Sends no further request."""
        self._stopped.set()

    def check(self) -> None:
        """Sends one request. What it notes is forgotten at the next answer."""
        self._stalls.note(self, self.store, self._fault or f"{self._server} does not answer")
        self._fault = ""
        try:
            self._request()
        except Transient as error:
            self._fault = error.reason
            self._stalls.note(self, self.store, self._fault)
            return
        except FedMQError:
            pass  # an answer: S3 refuses to say that a key is absent where the account may not list
        self._stalls.end(self)

    def _run(self) -> None:
        while not self._stopped.wait(PERIOD):
            self.check()
