"""Traces of real processes: each exports its own spans, and the collector has one tree for each round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmq.runtime.spans import round_span, trace_id
from support.collector import Collector
from support.servers.ports import free_ports
from system.deployment import Deployment, Servers

SESSION = {"seed": "seed-system", "rounds": 2, "clients_required": 3, "timeout": 60, "random_seed": 7}
WARNING = "traces are not exported"
COUNTS = dict.fromkeys(("round", "aggregate", "assignment", "job"), 1) | dict.fromkeys(
    ("update", "task", "fetch", "train", "upload"), 3
)


@pytest.fixture
def deployment(servers: Servers, tmp_path: Path) -> Iterator[Deployment]:
    servers.start()
    with Deployment(tmp_path / "traced", servers, f"traced-{free_ports(1)[0]}") as found:
        found.seed()
        yield found


def start(deployment: Deployment, url: str) -> None:
    settings = {"FEDN_TRACES_URL": url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    deployment.add("reducer", 1, **settings)
    deployment.add("combiner", 1, **settings)
    for number in range(1, 4):
        deployment.add("client", number, **settings)
    deployment.await_present("clients", 3)


def test_the_spans_of_all_processes_join_to_one_tree_for_each_round(deployment: Deployment) -> None:
    with Collector() as collector:
        start(deployment, collector.url)
        deployment.start_session("traced", **SESSION)
        assert deployment.await_end("traced")["state"] == "finished"
        deployment.until(lambda: len(collector.spans) >= 2 * sum(COUNTS.values()), "the spans of two rounds")
        codes = [deployment.remove(name) for name in list(deployment.nodes)]

        assert codes == [0] * 5
        for number in (1, 2):
            trace = trace_id(deployment.alliance, round_span("traced", number)).to_bytes(16)
            spans = {span.span_id: span for span in collector.spans if span.trace_id == trace}
            assert Counter(span.name for span in spans.values()) == COUNTS
            assert {span.parent_id for span in spans.values()} <= {b"", *spans}
            assert not any(span.is_error for span in spans.values())
            makers = {(span.name, span.resource["service.name"]) for span in spans.values()}
            assert {service for name, service in makers if name == "train"} == {"fedmq-client"}
            assert {service for name, service in makers if name == "job"} == {"fedmq-combiner"}
            assert {service for name, service in makers if name == "round"} == {"fedmq-reducer"}
        assert len({(span.trace_id, span.span_id) for span in collector.spans}) == len(collector.spans)


def test_rounds_go_on_and_processes_end_in_order_without_a_collector(deployment: Deployment) -> None:
    start(deployment, f"http://127.0.0.1:{free_ports(1)[0]}")
    deployment.start_session("untraced", **SESSION)
    assert deployment.await_end("untraced")["state"] == "finished"
    nodes = dict(deployment.nodes)
    deployment.until(
        lambda: all(WARNING in node.log.read_text() for node in nodes.values()), "a warning of each process"
    )
    codes = [node.stop() for node in nodes.values()]

    assert codes == [0] * 5
    assert {node.log.read_text().count(WARNING) for node in nodes.values()} == {1}
    assert not any("Traceback" in node.log.read_text() for node in nodes.values())
