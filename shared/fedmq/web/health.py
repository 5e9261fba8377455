"""`/health` and `/ready` for orchestrators and `/metrics` for Prometheus, served by a thread of their own."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fedmq.errors import ConfigError
from fedmq.web.access import HEADERS, Access
from fedmq.web.families import Family, Sample

SILENT_SECONDS = 5.0
REQUEST_SECONDS = 10.0
"""A connection is closed if its request is not whole that long after it began. Bytes alone do not extend it."""
MOST_CONNECTIONS = 32
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})

Answer = Callable[[], tuple[bool, Mapping[str, Any]]]


class HealthServer:
    """Serves the pages on `port` of `host` (0: any free one). Raises ConfigError if the port is taken.

    `health()` returns whether the process is well (status 200, else 503) and the JSON to report; `ready()` likewise whether
    it can do its work now. `samples()` returns the numbers. They are called on a thread of the server. `access`: who may
    read the numbers, by default this machine.
    """

    def __init__(
        self,
        host: str,
        port: int,
        health: Answer,
        ready: Answer,
        samples: Callable[[], Iterable[Sample]],
        access: Access | None = None,
    ) -> None:
        decide = (access or Access()).objection

        class Handler(BaseHTTPRequestHandler):
            timeout = SILENT_SECONDS

            server: _BoundedServer

            def do_GET(self) -> None:
                self.server.received(self.connection)
                path = self.path.partition("?")[0]
                objection = decide(path, self.headers.get)
                if objection is not None:
                    self._answer(objection.status, "text/plain", f"{objection.reason}\n", objection.headers)
                elif path in ("/health", "/ready"):
                    well, document = health() if path == "/health" else ready()
                    self._answer(200 if well else 503, "application/json", json.dumps(document))
                elif path == "/metrics":
                    self._answer(200, METRICS_TYPE, exposition(samples()))
                else:
                    self._answer(404, "text/plain", "there are /health, /ready and /metrics\n")

            def _answer(self, status: int, content_type: str, text: str, more: Mapping[str, str] = {}) -> None:
                data = text.encode()
                with suppress(ConnectionError):  # a probe that did not wait for the answer
                    self.send_response(status)
                    self.send_header("Content-Type", content_type)
                    self.send_header("Content-Length", str(len(data)))
                    for name, value in {**HEADERS, **more}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Logs nothing, as probes arrive every few seconds."""

        try:
            self._server = _BoundedServer((host, port), Handler)
        except OSError as error:
            raise ConfigError(f"can't listen on {host}:{port} ({error.strerror}): see FEDN_HEALTH_PORT") from error
        self.port: int = self._server.server_address[1]
        serve = partial(self._server.serve_forever, poll_interval=0.1)  # `close` waits for as long
        threading.Thread(target=serve, name="health", daemon=True).start()

    def close(self) -> None:
        """Stops serving and closes the port."""
        self._server.shutdown()
        self._server.server_close()


class _BoundedServer(ThreadingHTTPServer):
    """Has at most `MOST_CONNECTIONS` threads. A connection beyond that ends the oldest one.

    So an orchestrator's probe is answered while somebody holds connections open: else it would end a process that is well.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: dict[Any, float] = {}  # when each is closed; the oldest connection is first
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            oldest = next(iter(self._open)) if len(self._open) >= MOST_CONNECTIONS else None
            self._open.pop(oldest, None)
            self._open[request] = time.monotonic() + REQUEST_SECONDS
        if oldest is not None:
            _end(oldest)
        super().process_request(request, client_address)

    def received(self, request: Any) -> None:
        """Ends the limit of a connection whose request is whole."""
        with self._lock:
            if request in self._open:
                self._open[request] = math.inf

    def service_actions(self) -> None:
        """Closes each connection whose request is not whole in time. The loop of the server calls it all the time."""
        with self._lock:
            late = [request for request, until in self._open.items() if until < time.monotonic()]
            for request in late:
                del self._open[request]
        for request in late:
            _end(request)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)


def _end(connection: socket.socket) -> None:
    """Ends a connection. Its thread reads the end, and leaves."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def exposition(samples: Iterable[Sample]) -> str:
    """Returns the samples in Prometheus' text format, version 0.0.4."""
    families: dict[Family, list[str]] = {}
    for family, value, labels in samples:
        shown = ",".join(f'{name}="{labels[name].translate(_ESCAPES)}"' for name in family.labels)
        line = f"{family.name}{{{shown}}} {value:.17g}" if shown else f"{family.name} {value:.17g}"
        families.setdefault(family, []).append(line)
    text = []
    for family, lines in families.items():
        text += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}", *lines]
    return "\n".join(text) + "\n"
