"""What a site sees in its own log and on its own /health, and what the others learn of it, with real processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fedmq_schemas
from fedmq_schemas import records as tables
from support.packages import write_package
from system.deployment import Deployment, Servers
from system.node import Node

pytestmark = pytest.mark.system

SECRET = "anna-hiv-positive"
FAILING = f"""
import numpy as np

class Trainer:
    def __init__(self, client): ...
    def train(self, weights, task):
        raise ValueError("{SECRET}")
"""


@pytest.fixture(scope="module")
def site(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A reducer, a combiner and two clients."""
    servers.start()
    with Deployment(tmp_path_factory.mktemp("sites"), servers, "sites") as deployment:
        deployment.start(combiners=1, clients=2)
        deployment.seed()
        yield deployment


def lines(node: Node, message: str) -> list[dict[str, Any]]:
    """Returns the lines of a JSON log with this message."""
    found = (json.loads(line) for line in node.log.read_text().splitlines() if line.startswith("{"))
    return [line for line in found if line["message"] == message]


def events(site: Deployment, name: str) -> list[dict[str, Any]]:
    return [dict(event) for event in site.records.find(tables.EVENTS, {"name": name})]


def test_the_log_of_a_site_tells_of_its_work(site: Deployment) -> None:
    site.start_session("story", seed="seed-system", rounds=2, clients_required=2)
    assert site.await_end("story")["state"] == "finished"
    node = site.nodes["client-1"]
    [attached] = lines(node, "client.attached")
    assert (attached["alliance"], attached["combiner"], attached["name"]) == ("sites", "combiner-1", "client-1")
    for message in ("task.received", "task.trained", "update.uploaded"):
        assert [line["round"] for line in lines(node, message) if line.get("kind") != "validate"] == [1, 2], message
    site.until(lambda: len(lines(node, "update.accepted")) == 2 or None, "both outcomes")
    accepted = lines(node, "update.accepted")
    assert {line["session"] for line in accepted} == {"story"}
    assert all(line["bytes"] > 0 for line in lines(node, "update.uploaded"))


def test_an_exception_is_in_the_sites_log_in_full_and_its_text_nowhere_else(site: Deployment, tmp_path: Path) -> None:
    node = site.add("client", 3, FEDN_PACKAGE=str(write_package(tmp_path / "failing", FAILING)))
    site.await_present(tables.CLIENTS, 3)
    site.start_session("secret", seed="seed-system", rounds=1, clients_required=2, clients_requested=3)
    site.await_end("secret")
    [failed] = lines(node, "update.failed")
    assert SECRET in failed["reason"] and f'raise ValueError("{SECRET}")' in failed["traceback"]
    site.until(lambda: events(site, "update.failed"), "the event")
    [event] = events(site, "update.failed")
    assert event["data"]["reason"] == "train raised ValueError"
    assert event["data"]["traceback"] == "trainer.py:7 in train\nValueError"
    site.remove("client-3")
    everything = [site.records.find(table) for table in (tables.EVENTS, tables.SESSIONS, tables.ATTEMPTS)]
    assert SECRET not in repr(everything)
    others = [each.log.read_text() for each in site.nodes.values()]
    assert SECRET not in "".join(others)


def test_a_second_process_of_a_client_ends_and_the_first_one_goes_on(site: Deployment) -> None:
    first = site.nodes.pop("client-2")
    began = time.monotonic()
    second = site.add("client", 2, FEDN_STATE_DIR=str(site.folder / "state" / "copy"))
    site.until(lambda: not second.is_running or None, "the end of the second process")
    assert time.monotonic() - began < 30.0
    assert second.process is not None and second.process.returncode == 2
    assert "give this one another FEDN_CLIENT_NAME" in second.log.read_text()
    [event] = site.until(lambda: events(site, "client.duplicate"), "the event")
    assert event["client"] == "client-2" and event["data"]["continues"] == first.health()["instance"]
    assert first.is_running
    site.nodes["client-2"] = first


@pytest.mark.parametrize("role", ["client", "combiner"])
def test_a_role_of_another_alliance_says_within_30_s_that_no_reducer_answers(site: Deployment, role: str) -> None:
    node = site.add(role, 8, ALLIANCE_UID="nosuchalliance")
    text = r"no reducer has answered for \d+ s: see ALLIANCE_UID"
    warned = site.until(lambda: [line for line in lines(node, "waits") if line["level"] == "warning"], "the warning")
    assert re.match(text, warned[0]["reason"])
    assert re.match(text, node.health()["waits_for"])
    site.remove(node.name)


def test_a_client_of_another_version_learns_why_it_waits_and_is_named(site: Deployment, tmp_path: Path) -> None:
    copy = shutil.copytree(Path(fedmq_schemas.__file__).parent, tmp_path / "fedmq_schemas")
    base = copy / "messages" / "base.py"
    base.write_text(base.read_text().replace("VERSION = 1\n", "VERSION = 2\n"))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    node = site.add("client", 9, PYTHONPATH=path)
    reason = "the client speaks versions 2 to 2, this alliance 1"
    site.until(lambda: [line for line in lines(node, "waits") if line["reason"] == reason], "the reason")
    assert node.health()["waits_for"].startswith(reason)
    [event] = site.until(lambda: events(site, "client.refused"), "the event")
    assert (event["client"], event["data"]["reason"]) == ("client-9", reason)
    site.remove("client-9")
