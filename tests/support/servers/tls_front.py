"""TLS in front of a server that speaks none."""

from __future__ import annotations

import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from support.servers.certificates import Pair


@contextmanager
def tls_front(target: int, pair: Pair) -> Iterator[int]:
    """The port of a server that presents a certificate, and forwards what it decrypts to `target` on this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as front,
                socket.create_connection(("127.0.0.1", target)) as back,
            ):
                _forward(front, back)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _forward(front: ssl.SSLSocket, back: socket.socket) -> None:
    """Returns at the end of either."""
    while True:
        ready = [front] if front.pending() else select.select([front, back], [], [])[0]
        for source in ready:
            data = source.recv(1 << 16)
            if not data:
                return
            (back if source is front else front).sendall(data)
