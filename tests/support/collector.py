"""A collector of traces: an HTTP server that decodes what OpenTelemetry's exporter sends (OTLP, protobuf over HTTP)."""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class CollectedSpan:
    """A span as the collector got it. `resource` and `attributes` are dicts of texts and numbers."""

    name: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    began: int
    ended: int
    is_error: bool
    reason: str
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass
class Collector:
    """Use as a context manager. `status`: what each request is answered with. `tls`: serves https."""

    status: int = 200
    tls: ssl.SSLContext | None = None
    spans: list[CollectedSpan] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    headers: list[dict[str, str]] = field(default_factory=list)

    def __enter__(self) -> Collector:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if self.tls is not None:
            self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that does not trust it
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http{'' if self.tls is None else 's'}://127.0.0.1:{self._server.server_port}"

    def named(self, name: str) -> list[CollectedSpan]:
        return [span for span in list(self.spans) if span.name == name]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.paths.add(self.path)
                collector.headers.append(dict(self.headers))
                if collector.status == 200:
                    collector.spans += decode(body)
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def decode(body: bytes) -> list[CollectedSpan]:
    found = []
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in group.scope_spans:
            for span in scope.spans:
                found.append(
                    CollectedSpan(
                        name=span.name,
                        trace_id=span.trace_id,
                        span_id=span.span_id,
                        parent_id=span.parent_span_id,
                        began=span.start_time_unix_nano,
                        ended=span.end_time_unix_nano,
                        is_error=span.status.code == 2,
                        reason=span.status.message,
                        attributes=_values(span.attributes),
                        resource=_values(group.resource.attributes),
                    )
                )
    return found


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
