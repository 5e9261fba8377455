"""A TCP proxy in front of a server, whose links can be cut, and kept cut for a time."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


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

    def close(self) -> None:
        self._listener.close()
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
        for source, sink, rate in ((near, far, None), (far, near, self._rate)):
            threading.Thread(target=self._forward, args=(source, sink, rate), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, rate: int | None) -> None:
        with self._lock:
            self._open.add(source)
        with suppress(OSError):
            while data := source.recv(65_536 if rate is None else rate // 10):
                sink.sendall(data)
                if rate is not None:
                    time.sleep(len(data) / rate)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
        source.close()
