"""Whether the server can read the records, and metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

import fedmq
from fedmq_reducer.web.api.answers import Json
from fedmq_reducer.web.api.context import ApiContext, RequestContext
from fedmq_reducer.web.api.feed import ROUND_BUCKETS
from fedmq_reducer.web.api.stalls import all_stalls
from fedmq_schemas import records as tables
from fedmq_schemas.records import OUTCOMES, SessionState

router = APIRouter(tags=["health"])


@router.get("/health")
def is_well(context: RequestContext) -> Response:
    """Answers 200 if this server can read the records; 503 names what can't be reached.

    `stalls`: servers that refuse or do not answer, as the processes `process` have reported.
    `waits`: where in the code the course of each session stood, and what it waited for, when the reducer that decides
    looked last, at `waits_at`.
    """
    open_states = ["queued", "running", "waiting", "validating"]
    found = context.records.find(tables.SESSIONS, {"state": open_states})
    sessions = {each["session"]: each["state"] for each in found}
    seen = context.records.get(tables.SYSTEM, "sessions") or {"waits": {}, "at": None}
    return Json(
        {
            "status": "ok",
            "alliance": context.alliance,
            "version": fedmq.__version__,
            "stalls": all_stalls(context.records, context.stalls),
            "sessions": sum(state != "queued" for state in sessions.values()),
            "waits": {session: where for session, where in seen["waits"].items() if session in sessions},
            "waits_at": seen["at"],
        }
    )


@router.get("/metrics", response_class=PlainTextResponse)
def numbers(context: RequestContext) -> Response:
    """Returns metrics for Prometheus. Counters count from this server's start; gauges show what is recorded."""
    registry = CollectorRegistry()
    registry.register(_Metrics(context))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Metrics:
    """Collects the metrics of an alliance when they are requested."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def describe(self) -> list[Any]:
        """Returns nothing in advance, as records need not be reachable then."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yields the metric families."""
        records, feed = self._context.records, self._context.feed
        sessions = GaugeMetricFamily("fedmq_sessions", "Sessions by state.", labels=["state"])
        for state in get_args(SessionState):
            sessions.add_metric([state], records.count(tables.SESSIONS, {"state": state}))
        yield sessions
        present = {"state": "present"}
        yield GaugeMetricFamily("fedmq_clients", "Clients that are present.", records.count(tables.CLIENTS, present))
        yield GaugeMetricFamily(
            "fedmq_combiners", "Combiners that are present.", records.count(tables.COMBINERS, present)
        )
        yield GaugeMetricFamily("fedmq_rounds", "Committed rounds.", records.count(tables.ROUNDS))
        updates = CounterMetricFamily("fedmq_updates", "Updates by outcome.", labels=["outcome"])
        for outcome in OUTCOMES:
            updates.add_metric([outcome], feed.counts[f"update.{outcome}"])
        yield updates
        events = CounterMetricFamily("fedmq_events", "Events by name.", labels=["name"])
        for name, count in sorted(feed.counts.copy().items()):
            events.add_metric([name], count)
        yield events
        total, *buckets = feed.round_seconds
        count = feed.counts["round.committed"]
        bounds = [(str(bound), value) for bound, value in zip(ROUND_BUCKETS, buckets, strict=True)]
        yield HistogramMetricFamily(
            "fedmq_round_seconds", "From a round's first plan to its commit.", [*bounds, ("+Inf", count)], total
        )
