"""Exports spans by OpenTelemetry. The only module that imports it, and only where `FEDN_TRACES_URL` is set.

A collector that does not answer costs the spans, and nothing else: they wait in a bounded queue of a thread of their own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from fedmq import __version__, tls
from fedmq.errors import ConfigError
from fedmq.runtime.spans import TraceSpan

if TYPE_CHECKING:
    import requests
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = logging.getLogger("fedmq.process.traces")

PATH = "/v1/traces"
CLOSE_SECONDS = 0.5


class TraceExport:
    """Sends spans to a collector in batches, from a thread of its own. Use `open_traces`.

    The variables of OpenTelemetry set the rest, such as `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_BSP_SCHEDULE_DELAY`.
    """

    def __init__(self, exporter: SpanExporter, url: str, role: str, name: str, alliance: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._resource = Resource.create(
            {
                "service.name": f"fedmq-{role}",
                "service.namespace": alliance,
                "service.instance.id": name,
                "service.version": __version__,
            }
        )
        faults = ExportFaults(url)
        logger = logging.getLogger("opentelemetry")
        logger.propagate = False
        logger.addHandler(faults)
        self._exporter = exporter
        self._processor = BatchSpanProcessor(cast("SpanExporter", _Noting(exporter, faults)))

    def __call__(self, span: TraceSpan) -> None:
        """Queues a span. Does not block; a full queue drops the oldest."""
        self._processor.on_end(readable(span, self._resource))

    def close(self) -> None:
        """Sends what is queued, for half a second at most: a service drains for 8 s, leaves in 1.5 s, and ends in 10 s."""
        # The processor's own shutdown would wait 30 s for a collector that does not answer.
        ending = threading.Thread(target=self._processor.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)
        if ending.is_alive():
            self._exporter.shutdown()  # ends its retries


def open_traces(url: str, *, role: str, name: str, alliance: str) -> TraceExport:
    """Returns what sends spans to the collector at `url`. Raises ConfigError if OpenTelemetry is not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ConfigError(
            f"FEDN_TRACES_URL={url} needs OpenTelemetry, which is not installed ({error}): pip install 'fedmq[traces]', "
            "or unset the variable"
        ) from error
    endpoint = url.rstrip("/").removesuffix(PATH) + PATH
    return TraceExport(OTLPSpanExporter(endpoint, session=_session()), url, role, name, alliance)


def _session() -> requests.Session:
    """Returns what sends requests, and trusts the authorities of `FEDN_CA_FILE` beside the system's."""
    import requests
    from requests.adapters import HTTPAdapter

    class Trusting(HTTPAdapter):
        def init_poolmanager(self, *given: Any, **options: Any) -> None:
            super().init_poolmanager(*given, **options, ssl_context=tls.context())

    session = requests.Session()
    session.mount("https://", Trusting())
    return session


def readable(span: TraceSpan, resource: Resource) -> ReadableSpan:
    """Returns the span in OpenTelemetry's form. It is made by hand, as a tracer does not accept ids."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, TraceFlags
    from opentelemetry.trace.status import Status, StatusCode

    def context(span_id: int) -> SpanContext:
        return SpanContext(span.trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    return ReadableSpan(
        name=span.kind,
        context=context(span.span_id),
        parent=None if span.parent_id is None else context(span.parent_id),
        resource=resource,
        attributes={f"fedmq.{name}": value for name, value in span.attributes.items()},
        status=Status(StatusCode.ERROR, span.reason) if span.reason else Status(StatusCode.UNSET),
        start_time=int(span.began * 1e9),
        end_time=int(span.ended * 1e9),
        instrumentation_scope=InstrumentationScope("fedmq", __version__),
    )


class ExportFaults(logging.Handler):
    """Logs one warning when the exporter begins to fail, in place of its own lines, and one line when it succeeds again."""

    def __init__(self, url: str) -> None:
        super().__init__(logging.WARNING)
        self._url = url
        self._is_failing = False

    def emit(self, record: logging.LogRecord) -> None:
        """Logs the cause of the first failure."""
        if not self._is_failing:
            self._is_failing = True
            reason = f"the collector at {self._url} does not take spans, which are lost: {record.getMessage()}"
            log.warning("traces are not exported", extra={"reason": reason})

    def succeeded(self) -> None:
        """Notes that the collector has accepted spans."""
        if self._is_failing:
            self._is_failing = False
            log.info("traces are exported again")


class _Noting:
    """An exporter that notes success. It has the base's methods, which can't be imported where it is not installed."""

    def __init__(self, exporter: SpanExporter, faults: ExportFaults) -> None:
        self._exporter = exporter
        self._faults = faults
        self.shutdown = exporter.shutdown
        self.force_flush = exporter.force_flush

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result.name == "SUCCESS":
            self._faults.succeeded()
        return result
