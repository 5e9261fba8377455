"""Spans reach a collector, and one that does not answer costs nothing but the spans."""

from __future__ import annotations

import logging
import ssl
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from fedmq.errors import ConfigError
from fedmq.process import traces
from fedmq.process.service import Service
from fedmq.process.settings import ClientSettings
from fedmq.process.traces import TraceExport, open_traces
from fedmq.runtime.spans import OpenSpans, round_span, span_id, trace_id
from fedmq.tls import trust
from fedmq_client.role.traces import ClientTraces
from support.collector import Collector
from support.servers import certificates
from support.servers.certificates import Authority
from support.servers.ports import free_ports
from support.tiers import require
from support.waiting import until

KEY = round_span("s", 1)
LOGGER = "fedmq.process.traces"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    for name in ("http_proxy", "HTTP_PROXY", "OTEL_EXPORTER_OTLP_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    logger = logging.getLogger("opentelemetry")
    before = logger.propagate
    yield
    for thread in threading.enumerate():
        if thread.name in ("traces-end", "OtelBatchSpanRecordProcessor"):
            thread.join()
    logger.propagate = before
    logger.handlers.clear()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end waits for a collector that answers, on a busy machine too."""
    monkeypatch.setattr(traces, "CLOSE_SECONDS", 60.0)


def spans_to(export: TraceExport) -> OpenSpans:
    return OpenSpans("a", lambda: 100.5, export)


def opened(url: str) -> TraceExport:
    return open_traces(url, role="client", name="c1", alliance="a")


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def is_longer(requests: list[dict[str, str]], count: int) -> bool:
    return len(requests) > count


@pytest.mark.usefixtures("patient")
def test_a_span_has_the_derived_ids_its_status_and_the_process_that_made_it() -> None:
    exporter = InMemorySpanExporter()
    export = TraceExport(exporter, "http://unused", "client", "c1", "a")
    spans = spans_to(export)
    spans.add(KEY, 100.0, 100.25, "broken", attempt=2)
    spans.add(KEY.child("task"), 100.0, 100.25)
    export.close()

    whole, part = exporter.get_finished_spans()
    assert (whole.name, whole.start_time, whole.end_time) == ("round", 100_000_000_000, 100_250_000_000)
    assert (whole.status.status_code, whole.status.description) == (StatusCode.ERROR, "broken")
    assert whole.attributes == {"fedmq.session": "s", "fedmq.round": 1, "fedmq.attempt": 2}
    assert whole.context is not None
    assert (whole.context.trace_id, whole.context.span_id) == (trace_id("a", KEY), span_id("a", KEY))
    assert whole.resource.attributes["service.name"] == "fedmq-client"
    assert whole.resource.attributes["service.instance.id"] == "c1"
    assert part.status.status_code is StatusCode.UNSET
    assert part.parent is not None
    assert part.parent.span_id == whole.context.span_id


@pytest.mark.usefixtures("patient")
def test_a_collector_gets_what_is_queued_when_the_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer x")
    with Collector() as collector:
        export = opened(collector.url)
        spans_to(export).add(KEY, 100.0, 100.25, "broken", client="c1")
        export.close()

        [span] = collector.spans
        assert collector.paths == {"/v1/traces"}
        assert collector.headers[0]["authorization"] == "Bearer x"
    assert span.trace_id == trace_id("a", KEY).to_bytes(16)
    assert (span.name, span.is_error, span.reason) == ("round", True, "broken")
    assert span.attributes == {"fedmq.session": "s", "fedmq.round": 1, "fedmq.client": "c1"}


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("path", ["/", "/v1/traces"])
def test_the_url_may_end_in_a_slash_or_in_the_path_of_traces(path: str) -> None:
    with Collector() as collector:
        export = opened(collector.url + path)
        spans_to(export).add(KEY, 100.0, 100.25)
        export.close()
        assert collector.paths == {"/v1/traces"}


def test_a_dead_collector_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    [port] = free_ports(1)
    export = opened(f"http://127.0.0.1:{port}")
    spans = spans_to(export)
    spans.add(KEY, 100.0, 100.25)
    until(lambda: warnings_of(caplog), lambda: "no warning")
    for number in range(2, 5_000):  # more than its queue holds
        spans.add(round_span("s", number), 100.0, 100.25)
    export.close()

    [warning] = warnings_of(caplog)
    assert (warning.name, warning.message) == (LOGGER, "traces are not exported")
    assert f"the collector at http://127.0.0.1:{port} does not take spans, which are lost: " in warning.reason
    assert "Connection refused" in warning.reason


class HangingExporter(InMemorySpanExporter):
    """Exports nothing until it is released. A caller that waits for it blocks until the test times out."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.released = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.is_asked.set()
        self.released.wait()
        return super().export(spans)


def test_a_collector_that_hangs_blocks_neither_work_nor_the_end() -> None:
    exporter = HangingExporter()
    export = TraceExport(exporter, "http://unused", "client", "c1", "a")
    spans = spans_to(export)
    spans.add(KEY, 100.0, 100.25)
    exporter.is_asked.wait()
    for number in range(2, 5_000):
        spans.add(round_span("s", number), 100.0, 100.25)
    export.close()

    assert exporter.get_finished_spans() == ()
    exporter.released.set()


def test_a_collector_that_refuses_is_one_warning_until_it_accepts_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    with Collector(status=403) as collector:
        export = opened(collector.url)
        spans = spans_to(export)
        for number in range(3):
            spans.add(round_span("s", number), 100.0, 100.25)
            until(partial(is_longer, collector.headers, number), lambda: "no request")
        collector.status = 200
        spans.add(round_span("s", 4), 100.0, 100.25)
        until(lambda: collector.spans, lambda: "no span")
        export.close()

    ours = [record for record in caplog.records if record.name == LOGGER]
    assert [record.message for record in ours] == ["traces are not exported", "traces are exported again"]
    assert "403" in ours[0].__dict__["reason"]


def test_a_collector_over_https_is_verified_with_the_authority_that_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require(certificates.missing())
    ours, other = Authority(tmp_path / "ours", "ours"), Authority(tmp_path / "other", "other")
    pair, tls = ours.sign("collector"), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.certificate, pair.key)
    try:
        with Collector(tls=tls) as collector:
            for authority, results in ((ours, lambda: collector.spans), (other, lambda: warnings_of(caplog))):
                trust(authority.certificate)
                export = opened(collector.url)
                spans_to(export).add(KEY, 100.0, 100.25)
                until(results, lambda: "neither a span nor a warning")
                export.close()
            assert len(collector.spans) == 1
    finally:
        trust(None)
    assert "certificate verify failed" in warnings_of(caplog)[0].reason


def service() -> Service:
    return Service("client", "c1", ClientSettings.load())


def test_traces_are_off_unless_a_collector_is_set() -> None:
    with patch.dict(sys.modules, {"opentelemetry": None}):
        found = service()
        assert found.tracing(None, lambda spans: ClientTraces(spans, "c1")) == []
    found.stack.close()
    found.scheduler.close()


def test_without_the_extra_the_error_names_the_remedy() -> None:
    found = service()
    hidden = {"opentelemetry.exporter.otlp.proto.http.trace_exporter": None}
    with (
        patch.dict(sys.modules, hidden),
        pytest.raises(ConfigError, match=r"FEDN_TRACES_URL=http://127.0.0.1:4318 .* pip install 'fedmq\[traces\]'"),
    ):
        found.tracing("http://127.0.0.1:4318", lambda spans: ClientTraces(spans, "c1"))
    found.stack.close()
    found.scheduler.close()


@pytest.mark.parametrize("url", ["localhost:4318", "grpc://h:4317", "http://h/?x=1", "http://user@h"])
def test_an_address_that_is_no_url_of_a_collector_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="FEDN_TRACES_URL"):
        ClientSettings.load(traces_url=url)
