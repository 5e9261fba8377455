"""Alerts, dashboard and scrape configuration: valid by Prometheus's own tool, and about metrics that exist."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from docs.blocks import ROOT
from fedmq.web.families import PROCESS, UNSETTLED
from fedmq_combiner import metrics as combiner
from fedmq_reducer import metrics as reducer
from fedmq_schemas.records import OUTCOMES, SessionState
from support.promtool import promtool
from support.servers.rabbitmq import RabbitmqServer, missing
from support.tiers import require
from support.waiting import SECONDS

FOLDER = ROOT / "deploy" / "prometheus"
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
PANELS: list[dict[str, Any]] = json.loads((ROOT / "deploy" / "grafana" / "fedmq.json").read_text())["panels"]
JOBS: dict[str, dict[str, Any]] = {
    job["job_name"]: job for job in yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
}
EXPRESSIONS = [rule["expr"] for rule in ALERTS] + [
    target["expr"] for panel in PANELS for target in panel.get("targets", ())
]
FAMILIES = {each.name: each for each in (*PROCESS, UNSETTLED, *reducer.FAMILIES, *combiner.FAMILIES, *reducer.ALLIANCE)}
OF_TARGETS = {"job", "instance"}
VALUES = {"outcome": {*OUTCOMES}, "state": {*get_args(SessionState), "present", "away"}, "job": {*JOBS}}


def names(expression: str) -> set[str]:
    """Returns the metrics of an expression in PromQL: words that are no function, operator, label or duration."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)", " ", expression)
    return {*re.findall(r"\b[a-z_][a-z0-9_]+\b(?!\s*\()", bare)} - {"and", "or"}


def ours(name: str) -> str:
    """Returns the name of the family of a metric."""
    return re.sub(r"_(bucket|sum|count)$", "", name) if name not in FAMILIES else name


def test_prometheus_takes_configuration_and_alerts() -> None:
    promtool("check", "config", FOLDER / "prometheus.yaml")


def test_prometheus_takes_the_token_that_ports_beyond_the_machine_need(tmp_path: Path) -> None:
    text = (FOLDER / "prometheus.yaml").read_text()
    assert text.count("    # authorization:") == len([name for name in JOBS if name.startswith("fedmq")])
    (tmp_path / "prometheus.yaml").write_text(text.replace("    # authorization:", "    authorization:"))
    (tmp_path / "alerts.yaml").write_text((FOLDER / "alerts.yaml").read_text())
    (tmp_path / "health-token").write_text("0123456789abcdef")
    promtool("check", "config", tmp_path / "prometheus.yaml")


def test_alerts_fire_when_they_have_to_and_only_then() -> None:
    promtool("test", "rules", "alerts_test.yaml", folder=FOLDER)


def test_every_alert_is_made_to_fire_by_one_of_those_tests() -> None:
    tests = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
    fired = {each["alertname"] for test in tests for each in test["alert_rule_test"] if each.get("exp_alerts")}
    assert {rule["alert"] for rule in ALERTS} - fired == set()


def test_names_in_an_expression_are_told_from_all_other_words() -> None:
    expression = (
        'sum(max by (outcome) (rate(a_total{outcome=~"x|y"}[30m]))) > 0.5 * b_c or absent(d_e) and time() - up == 1'
    )
    assert names(expression) == {"a_total", "b_c", "d_e", "up"}


def test_expressions_are_about_metrics_labels_and_values_that_exist() -> None:
    assert len(EXPRESSIONS) > 30
    for expression in EXPRESSIONS:
        used = {ours(name) for name in names(expression) if not name.startswith("rabbitmq_")} - {"up"}
        assert used <= set(FAMILIES), expression
        labels = {label for name in used for label in FAMILIES[name].labels} | OF_TARGETS | {"le"}
        labels |= {"queue"} if "rabbitmq_" in expression else set()
        grouped = {label for found in re.findall(r"by \(([^)]*)\)", expression) for label in found.split(", ")}
        matched = re.findall(r"[{,]\s*(\w+)=~?\"([^\"]*)\"", expression)
        assert grouped | {label for label, _ in matched} <= labels, expression
        for label, values in matched:
            assert label not in VALUES or set(values.split("|")) <= VALUES[label], expression


def test_numbers_of_the_alliance_are_never_added_up_over_reducers() -> None:
    shared = {family.name for family in reducer.ALLIANCE}
    for expression in EXPRESSIONS:
        for name in names(expression):
            if ours(name) in shared:
                around = expression.replace("rate(", "").replace("increase(", "")
                assert re.search(rf"max( by \(\w+\))? \({name}|max\({name}", around), expression


def test_what_is_scraped_is_what_compose_serves() -> None:
    ports = {job: _targets(found) for job, found in JOBS.items()}
    roles = {f"{name}:8080" for name in ("reducer", "combiner", "client", "dashboard")}
    broker = {"rabbitmq:15692"}
    assert ports == {"fedmq": roles, "fedmq-api": {"reducer:8090"}, "rabbitmq": broker, "rabbitmq-queues": broker}


def _targets(job: dict[str, Any]) -> set[str]:
    found = {f"{name}:{each['port']}" for each in job.get("dns_sd_configs", ()) for name in each["names"]}
    return found | {target for each in job.get("static_configs", ()) for target in each["targets"]}


def test_panels_have_ids_of_their_own_and_use_the_data_source_that_is_chosen() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel.get("targets", ()))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RabbitmqServer]:
    require(missing())
    server = RabbitmqServer(tmp_path, has_exporter=True).start()
    yield server
    server.remove()


def test_the_deployed_plugins_export_what_alerts_and_panels_use(broker: RabbitmqServer) -> None:
    wanted = {name for expression in EXPRESSIONS for name in names(expression) if name.startswith("rabbitmq_")}
    assert wanted
    broker.manage("PUT", "queues/%2F/fedmq.dead.v2", {"durable": True})
    parameters = "&".join(f"family={each}" for each in JOBS["rabbitmq-queues"]["params"]["family"])
    served: set[str] = set()
    deadline = time.monotonic() + SECONDS
    while not wanted <= served and time.monotonic() < deadline:
        for path in ("/metrics", f"{JOBS['rabbitmq-queues']['metrics_path']}?{parameters}"):
            with urllib.request.urlopen(f"http://127.0.0.1:{broker.metrics_port}{path}", timeout=10) as answer:
                served |= set(re.findall(r"^(\w+)[{ ]", answer.read().decode(), re.MULTILINE))
    assert wanted - served == set()
