"""Separate processes on RabbitMQ, S3 and a MongoDB server train together, however they are started."""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fedmq.web import families
from fedmq_combiner import metrics as combiner
from fedmq_reducer import metrics as reducer
from fedmq_schemas import records as tables
from support.promtool import check_exposition
from support.waiting import SECONDS
from system.deployment import Deployment
from system.node import COMMAND, Node

pytestmark = pytest.mark.system

OWN_FAMILIES = {"reducer": reducer.FAMILIES, "combiner": combiner.FAMILIES, "client": (families.UNSETTLED,)}
POLICY: dict[str, Any] = {"seed": "seed-system", "rounds": 3, "clients_required": 6, "random_seed": 1}


def test_a_json_message_from_plain_pika_starts_a_session_whose_models_are_exact_weighted_means(
    alliance: Deployment,
) -> None:
    alliance.start_session("raw-json", **POLICY)

    assert alliance.await_end("raw-json")["state"] == "finished"
    ledgers = alliance.check_ledgers("raw-json", rounds=3)
    for ledger in ledgers:
        assert {entry.client: entry.weight for entry in ledger.entries} == {
            f"client-{number}": 7 * number for number in range(1, 7)
        }
        assert len(ledger.plans) == 2


def test_every_role_tells_its_health_and_its_numbers(alliance: Deployment) -> None:
    for node in alliance.nodes.values():
        health = node.health()
        assert (health["status"], health["role"], health["broker"]) == ("ok", node.role, "connected")
        text = node.metrics()
        check_exposition(text)
        served = {(found.name, found.type, found.documentation) for found in text_string_to_metric_families(text)}
        known = [*families.PROCESS, *OWN_FAMILIES[node.role]]
        assert served <= {(each.name.removesuffix("_total"), each.kind, each.help) for each in known}
        lacking = {each.name for each in known} - {name for name, *_ in served}
        counters = {each.name for each in known if each.kind == "counter"}
        # Counters appear with the first thing that they count, and a client uses no store.
        assert lacking <= counters | ({"fedmq_store_up"} if node.role == "client" else set())


def test_all_but_one_reducer_stand_by_and_the_lease_of_that_one_is_new(alliance: Deployment) -> None:
    def number(node: Node, name: str) -> float:
        [value] = re.findall(rf"^{name} (\S+)$", node.metrics(), re.MULTILINE)
        return float(value)

    reducers = [node for node in alliance.nodes.values() if node.role == "reducer"]
    [active] = [node for node in reducers if number(node, "fedmq_reducer_active") == 1]
    assert time.time() - number(active, "fedmq_reducer_lease_renewed_timestamp_seconds") < SECONDS
    assert number(active, "process_start_time_seconds") < time.time()


def test_the_logs_lead_from_a_committed_round_back_to_the_messages_that_caused_it(alliance: Deployment) -> None:
    alliance.start_session("traced", **POLICY)
    alliance.await_end("traced")

    lines = [json.loads(line) for node in alliance.nodes.values() for line in node.log.read_text().splitlines()]
    mine = [line for line in lines if line.get("session") == "traced"]
    committed = next(line for line in mine if line["message"] == "round.committed" and line["round"] == 1)
    partial, update = committed["causes"][:2]
    assert partial.startswith("partial-traced/1/train")
    accepted = [line for line in mine if line["message"] == "update.accepted" and line["role"] == "combiner"]
    assert [line["causes"][0] for line in accepted].count(update) == 1
    assert next(line for line in mine if line["message"] == "session.queued")["causes"] == ["traced"]


def test_a_client_that_is_killed_for_good_costs_its_own_updates_only(alliance: Deployment) -> None:
    policy = POLICY | {"rounds": 4, "clients_required": 5, "timeout": 4, "train": {"seconds": 0.5}}
    alliance.start_session("bereft", **policy)
    alliance.await_round("bereft", 1)
    alliance.nodes["client-6"].kill()

    assert alliance.await_end("bereft")["state"] == "finished"
    ledgers = alliance.check_ledgers("bereft", rounds=4)
    accepted = [{entry.client for entry in led.entries if entry.outcome == "accepted"} for led in ledgers]
    assert "client-6" in accepted[0]
    assert accepted[-1] == {f"client-{number}" for number in range(1, 6)}


def test_a_combiner_added_in_round_3_gets_the_clients_that_come_after_it(alliance: Deployment) -> None:
    policy = POLICY | {"rounds": 8, "train": {"seconds": 0.5}}
    alliance.start_session("grown", **policy)
    alliance.await_round("grown", 2)
    alliance.add("combiner", 3)
    alliance.until(lambda: alliance.records.count(tables.COMBINERS, {"state": "present"}) == 3, "third combiner")
    alliance.add("client", 7)

    assert alliance.await_end("grown")["state"] == "finished"
    last = alliance.check_ledgers("grown", rounds=8)[-1]
    assert {entry.client for entry in last.entries} == {f"client-{number}" for number in range(1, 8)}
    assert len(last.plans) == 3
    for name in ("client-7", "combiner-3"):
        assert alliance.remove(name) == 0


def account(alliance: Deployment, *words: str) -> str:
    """What a verb of `fedmq account` prints, with the settings of an operator."""
    operator = alliance.environment("operator") | {
        "FEDN_RABBITMQ_MANAGEMENT_URL": alliance.servers.rabbitmq.management_url
    }
    done = subprocess.run([COMMAND, "account", *words], env=operator, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_client_with_an_account_of_its_own_trains_until_that_is_revoked(alliance: Deployment) -> None:
    alliance.add("client", 8, **json.loads(account(alliance, "add", "client-8", "--json")))
    alliance.await_present(tables.CLIENTS, 7)
    policy = POLICY | {"rounds": 4, "timeout": 3, "validation_timeout": 5, "train": {"seconds": 0.5}}
    alliance.start_session("guarded", **policy)
    alliance.await_round("guarded", 1)
    assert json.loads(account(alliance, "list", "--json")) == ["client-8"]
    account(alliance, "revoke", "client-8")
    revoked = alliance.nodes["client-8"]
    assert revoked.process is not None and revoked.process.wait(10) == 2
    assert "refuses the account 'client-8'" in revoked.log.read_text().splitlines()[-1]
    del alliance.nodes["client-8"]

    assert alliance.await_end("guarded")["state"] == "finished"
    ledgers = alliance.check_ledgers("guarded", rounds=4)
    accepted = [{entry.client for entry in led.entries if entry.outcome == "accepted"} for led in ledgers]
    assert "client-8" in accepted[0]
    assert accepted[-1] == {f"client-{number}" for number in range(1, 7)}


def test_a_revoked_client_that_is_added_again_completes_the_open_round(alliance: Deployment) -> None:
    alliance.add("client", 8, **json.loads(account(alliance, "add", "client-8", "--json")))
    alliance.await_present(tables.CLIENTS, 7)
    policy = POLICY | {"rounds": 2, "timeout": 3600, "train": {"seconds": 5}}
    alliance.start_session("regained", **policy)
    alliance.await_round("regained", 1)
    account(alliance, "revoke", "client-8")
    revoked = alliance.nodes.pop("client-8")
    assert revoked.process is not None and revoked.process.wait(10) == 2
    assert alliance.until(lambda: alliance.round_of("regained"), "round of regained") == 1
    alliance.add("client", 8, **json.loads(account(alliance, "add", "client-8", "--json")))

    assert alliance.await_end("regained")["state"] == "finished"
    last = alliance.check_ledgers("regained", rounds=2)[-1]
    assert "client-8" in {entry.client for entry in last.entries if entry.outcome == "accepted"}
    assert last.round == 2
    alliance.remove("client-8")
    account(alliance, "revoke", "client-8")
