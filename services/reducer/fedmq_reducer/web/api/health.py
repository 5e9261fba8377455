"""Whether the server can read the records, and metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

import fedmq
from fedmq.web.families import Family
from fedmq_reducer import metrics
from fedmq_reducer.web.api.answers import Json
from fedmq_reducer.web.api.context import ApiContext, RequestContext
from fedmq_reducer.web.api.feed import ROUND_BUCKETS
from fedmq_reducer.web.api.open_round import open_round
from fedmq_reducer.web.api.stalls import all_stalls
from fedmq_schemas import records as tables
from fedmq_schemas.messages import VERSION
from fedmq_schemas.records import OUTCOMES, SessionState
from fedmq_schemas.topology import Topology

MEMBER_STATES = ("present", "away")

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
            "protocol": VERSION,
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
        yield from self._recorded()
        yield from self._open_rounds()
        yield from self._observed()

    def _recorded(self) -> Iterator[Any]:
        records = self._context.records
        for family, table, states in (
            (metrics.SESSIONS, tables.SESSIONS, get_args(SessionState)),
            (metrics.CLIENTS, tables.CLIENTS, MEMBER_STATES),
            (metrics.COMBINERS, tables.COMBINERS, MEMBER_STATES),
        ):
            yield _gauge(family, {state: records.count(table, {"state": state}) for state in states})
        yield GaugeMetricFamily(metrics.ROUNDS.name, metrics.ROUNDS.help, records.count(tables.ROUNDS))
        seen = records.get(tables.SYSTEM, "queues")
        dead = Topology(self._context.alliance).dead().name
        for queue in () if seen is None else seen["queues"]:
            if queue["name"] == dead:
                yield GaugeMetricFamily(metrics.DEAD_LETTERS.name, metrics.DEAD_LETTERS.help, queue["ready"])

    def _open_rounds(self) -> Iterator[Any]:
        records = self._context.records
        sessions = records.find(tables.SESSIONS, {"state": "running"})
        found = {each["session"]: open_round(records, each) for each in sessions}
        rounds = {session: each for session, each in found.items() if each is not None}
        yield _gauge(metrics.ROUND_STARTED, {session: each["since"] for session, each in rounds.items()})
        yield _gauge(metrics.ROUND_DEADLINE, {session: each["deadline"] for session, each in rounds.items()})
        yield _gauge(metrics.ROUND_ASKED, {session: len(each["clients"]) for session, each in rounds.items()})
        waiting = {
            session: sum(client["outcome"] is None for client in each["clients"]) for session, each in rounds.items()
        }
        yield _gauge(metrics.ROUND_WAITING, waiting)

    def _observed(self) -> Iterator[Any]:
        feed = self._context.feed
        yield _counter(metrics.UPDATES, {outcome: feed.counts[f"update.{outcome}"] for outcome in OUTCOMES})
        yield _counter(metrics.OBSERVED_EVENTS, dict(sorted(feed.counts.copy().items())))
        total, *buckets = feed.round_seconds
        bounds = [(str(bound), value) for bound, value in zip(ROUND_BUCKETS, buckets, strict=True)]
        counted = [*bounds, ("+Inf", feed.counts["round.committed"])]
        yield HistogramMetricFamily(metrics.ROUND_SECONDS.name, metrics.ROUND_SECONDS.help, counted, total)


def _gauge(family: Family, values: Mapping[str, float]) -> GaugeMetricFamily:
    found = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for label, value in values.items():
        found.add_metric([label], value)
    return found


def _counter(family: Family, values: Mapping[str, float]) -> CounterMetricFamily:
    found = CounterMetricFamily(family.name, family.help, labels=family.labels)
    for label, value in values.items():
        found.add_metric([label], value)
    return found
