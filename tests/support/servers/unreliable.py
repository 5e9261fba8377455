"""An HTTP proxy in front of an S3 server, which fails now and then as a store in trouble does."""

from __future__ import annotations

import random
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import Any

FAULTS = ("refused", "done, and reported as failed", "cut in half")


class UnreliableHttp:
    """Listens on `port` and forwards to `target` on this machine. Of a hundred requests, drawn by `seed`, `percent` fail,
    in turn: they are answered with 503 and not forwarded, or forwarded and then answered with 500, or half of their answer
    comes.
    `failed` counts each kind."""

    def __init__(self, target: int, percent: int, seed: int = 1) -> None:
        self.failed = dict.fromkeys(FAULTS, 0)
        source, lock, failed, faults = random.Random(seed), threading.Lock(), self.failed, cycle(FAULTS)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def _any(self) -> None:
                with lock:
                    fault = next(faults) if source.random() * 100 < percent else None
                    if fault is not None:
                        failed[fault] += 1
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if fault == "refused":
                    self._answer(503, {}, b"")
                    return
                there = HTTPConnection("127.0.0.1", target, timeout=30)
                try:
                    there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        there.putheader(name, value)
                    there.endheaders(body)
                    got = there.getresponse()
                    content = got.read()
                    headers = dict(got.getheaders())
                finally:
                    there.close()
                if fault == "done, and reported as failed":
                    self._answer(500, {}, b"")
                elif fault is None or not content:
                    self._answer(got.status, headers, content)
                else:
                    self._answer(got.status, headers, content, len(content) // 2)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815 - names that http.server calls

            def _answer(self, status: int, headers: dict[str, str], content: bytes, sent: int | None = None) -> None:
                self.send_response(status)
                length = headers.get("Content-Length", str(len(content)))
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
                self.end_headers()
                self.wfile.write(content if sent is None else content[:sent])
                self.close_connection = sent is not None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="unreliable", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
