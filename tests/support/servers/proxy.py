"""A TCP proxy in front of a server, whose links can be cut, and kept cut for a time."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

_FULL = b"<Error><Code>InternalError</Code><Message>no space left</Message><Resource>/</Resource></Error>"
_REFUSAL = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_FULL), _FULL)
)


class Proxy:
    """Listens on a port of its own (`port`) and forwards to `target` on this machine; what comes back from there at
    `rate` bytes a second, if one is given."""

    def __init__(self, target: int, rate: int | None = None) -> None:
        self._target = target
        self._rate = rate
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._down = False
        self._flows = threading.Event()
        self._flows.set()
        self.is_full = False
        """Whether a PUT is answered as by an S3 server whose disk is full."""
        self._trap: tuple[bytes, bool] | None = None
        self.sprung = threading.Event()
        """Set when the trap has done its work."""
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def cut(self) -> None:
        """Ends all links; new ones are accepted."""
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def down(self) -> None:
        """Ends all links, and each new one at once, until `up`."""
        self._down = True
        self.cut()

    def up(self) -> None:
        self._down = False

    def hang(self) -> None:
        """Forwards nothing until `flow`, and accepts new links: a server that hangs."""
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    def trap(self, word: bytes, *, delivered: bool) -> None:
        """Once, when a request with `word` in it comes: ends its link, with the request `delivered` and not answered, or not
        even that."""
        self._trap = word, delivered

    def close(self) -> None:
        self._listener.close()
        self.flow()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                near, _ = self._listener.accept()
                self._join(near)

    def _join(self, near: socket.socket) -> None:
        try:
            if self._down:
                raise ConnectionRefusedError
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._forward, args=(source, sink, source is near), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        rate = None if is_request else self._rate
        with self._lock:
            self._open.add(source)
        ends: tuple[socket.socket, ...] = (source, sink)
        with suppress(OSError):
            while data := source.recv(65_536 if rate is None else rate // 10):
                if is_request and self._trap is not None and self._trap[0] in data:
                    delivered, self._trap = self._trap[1], None
                    source.shutdown(socket.SHUT_RDWR)
                    if delivered:  # the server does what it was asked for; its answer finds nobody
                        sink.sendall(data)
                        ends = (source,)
                    self.sprung.set()
                    break
                if is_request and self.is_full and data.startswith(b"PUT "):
                    source.sendall(_REFUSAL)
                    break
                self._flows.wait()
                sink.sendall(data)
                if rate is not None:
                    time.sleep(len(data) / rate)
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
        source.close()
