"""Requests to an ASGI application in this process, without a port. `Rest` reads the folder of a sandbox so."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

PIECES = 8
"""Number of pieces of an answer that wait in memory, where a model's have 1 MiB each."""
PAUSE = 0.01
"""Seconds between two looks whether a reader takes more, or has left."""


class InProcessPool:
    """Answers requests as urllib3's pool does for `Rest`. Safe across threads, also inside of a running event loop."""

    def __init__(self, application: Any) -> None:
        self._application = application

    def request(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], **_: Any
    ) -> InProcessAnswer:
        """Returns the answer once its status is known. Raises the application's error if it answers nothing."""
        address = urlsplit(url)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": address.scheme,
            "method": method,
            "path": unquote(address.path),
            "raw_path": address.path.encode(),
            "query_string": address.query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        return InProcessAnswer(self._application, scope, body or b"")


class InProcessAnswer:
    """One answer. The application runs in an event loop on a thread of its own, until all is read, or until `close`."""

    def __init__(self, application: Any, scope: dict[str, Any], body: bytes) -> None:
        self._requests = [{"type": "http.request", "body": body, "more_body": False}]
        self._messages: queue.SimpleQueue[dict[str, Any] | Exception | None] = queue.SimpleQueue()
        self._is_left = False
        work = self._run(application, scope)
        threading.Thread(target=asyncio.run, args=(work,), name="fedmq-in-process", daemon=True).start()
        self.status = int(next(self._received())["status"])

    def read(self) -> bytes:
        """Returns the rest of the body."""
        return b"".join(self.stream())

    def stream(self, _: int = 0) -> Iterator[bytes]:
        """Yields the body in pieces, as the application sends them."""
        for message in self._received():
            yield message.get("body", b"")

    read_chunked = stream

    def close(self) -> None:
        """Ends the request, as a client that leaves. Idempotent."""
        self._is_left = True

    release_conn = close

    async def _run(self, application: Any, scope: dict[str, Any]) -> None:
        end: Exception | None = None
        try:
            await application(scope, self._receive, self._send)
        except Exception as error:  # raised again in the thread that reads
            end = error
        self._messages.put(end)

    async def _receive(self) -> dict[str, Any]:
        if self._requests:
            return self._requests.pop()
        while not self._is_over():
            await asyncio.sleep(PAUSE)
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        while self._messages.qsize() >= PIECES and not self._is_over():
            await asyncio.sleep(PAUSE)
        self._messages.put(message)

    def _is_over(self) -> bool:
        """Returns whether nobody reads on. At the process's end it waits for worker threads of the application."""
        return self._is_left or not threading.main_thread().is_alive()

    def _received(self) -> Iterator[dict[str, Any]]:
        """Yields messages up to the end, which stays in the queue for the next reader. Raises the application's error."""
        while isinstance(message := self._messages.get(), dict):
            yield message
        self._messages.put(message)
        if message is not None:
            raise message
