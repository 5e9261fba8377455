"""A server that hangs or refuses is shown within ten seconds: in `fedmq status`, `/health`, an event and the metrics."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from fedmq_schemas import records as tables
from support.servers.proxy import Proxy
from support.waiting import promised
from system.deployment import Deployment, Servers
from system.node import COMMAND, Node

pytestmark = pytest.mark.system
LONG = {"seed": "seed-system", "rounds": 1000, "timeout": 600, "clients_required": 1}


class Stallable(Deployment):
    """One reducer, combiner and client, whose stores can hang."""

    mongo: Proxy
    s3: Proxy

    def node(self, role: str) -> Node:
        return self.nodes[f"{role}-1"]

    def status(self) -> str:
        """What `fedmq status` prints, its error included."""
        return self.fedmq("status")

    def fedmq(self, *words: str) -> str:
        """What a verb prints, its error included."""
        environment = self.environment("operator") | {"FEDN_REDUCER_PORT": str(self.node("reducer").api_port)}
        done = subprocess.run([COMMAND, *words], env=environment, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def page(self, role: str, path: str) -> tuple[int, dict[str, Any]]:
        """Status and document of a health page."""
        url = f"http://127.0.0.1:{self.node(role).health_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def is_ready(self, role: str) -> bool:
        return self.page(role, "/ready")[0] == 200

    def shows(self, role: str, server: str, words: str) -> bool:
        return words in self.node(role).health()[server]

    def soon(self, condition: Callable[[], bool], what: str) -> None:
        self.until(condition, what, promised(10.0))

    def stalls_begun(self, role: str) -> float:
        """How many stalls the role has published as events."""
        found = re.search(r'^fedmq_events_total{event="stall.began"} (\S+)$', self.node(role).metrics(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def recorded(self, name: str, store: str, process: str, words: str = "", began: float = 0.0) -> bool:
        """Whether there is such an event, of a reason with these words and since this time, where they are given."""
        found = self.records.find(tables.EVENTS, {"name": name, "data.store": store, "data.process": process})
        about = [event["data"] for event in found]
        return any(words in each["reason"] and each.get("since", began) >= began for each in about)


@pytest.fixture(scope="module")
def started(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stallable]:
    servers.start()
    mongo, s3 = Proxy(servers.mongo.port), Proxy(int(servers.s3.endpoint.rpartition(":")[2]))
    alliance = Stallable(tmp_path_factory.mktemp("stalls"), servers, "stalls")
    with alliance:
        alliance.mongo, alliance.s3 = mongo, s3
        # Clients use the server itself, so that what a full or hung store keeps is the combiner's.
        blobs = {"FEDN_MINIO_PORT": str(s3.port), "FEDN_MINIO_PUBLIC_URL": servers.s3.url}
        alliance.add("reducer", 1, FEDN_MONGO_PORT=str(mongo.port), **blobs)
        alliance.add("combiner", 1, **blobs)
        alliance.await_present(tables.COMBINERS, 1)
        alliance.add("client", 1)
        alliance.await_present(tables.CLIENTS, 1)
        alliance.seed()
        alliance.start_session("long", **LONG, train={"seconds": 1.0})
        alliance.await_round("long", 1)
        yield alliance
    mongo.close()
    s3.close()


@pytest.fixture
def alliance(started: Stallable) -> Iterator[Stallable]:
    """Everything is ready before and after."""
    yield started
    started.mongo.flow()
    started.s3.flow()
    started.s3.is_full = False
    for role in ("reducer", "combiner", "client"):
        started.until(partial(started.is_ready, role), f"ready {role}")


def test_a_hung_blob_store_is_shown_at_four_places(alliance: Stallable) -> None:
    where = f"the S3 server at 127.0.0.1:{alliance.s3.port} does not answer, since"
    alliance.s3.hang()
    for role in ("reducer", "combiner"):
        alliance.soon(partial(alliance.shows, role, "blob_store", where), f"/health of {role}")
        assert 'fedmq_store_up{store="blob_store"} 0' in alliance.node(role).metrics()
        assert alliance.page(role, "/ready")[0] == 503
    alliance.soon(lambda: f"reducer waits: {where}" in alliance.status(), "fedmq status")
    alliance.soon(lambda: f"combiner combiner-1 waits: {where}" in alliance.status(), "the combiner's in fedmq status")
    alliance.soon(lambda: alliance.recorded("stall.began", "blob_store", "combiner combiner-1"), "event")
    alliance.s3.flow()
    alliance.soon(lambda: alliance.node("reducer").health()["blob_store"] == "ok", "the end in /health")
    alliance.soon(lambda: alliance.recorded("stall.ended", "blob_store", "combiner combiner-1"), "event of the end")
    alliance.soon(lambda: "does not answer" not in alliance.status(), "the end in fedmq status")


def test_a_full_blob_store_is_shown_with_what_it_answers(alliance: Stallable) -> None:
    where = f"the S3 server at 127.0.0.1:{alliance.s3.port} answered InternalError for "
    alliance.s3.is_full = True

    def met_by() -> str | None:
        return next((role for role in ("reducer", "combiner") if alliance.shows(role, "blob_store", where)), None)

    # The reducer puts models, and the combiner sums: which one meets it first depends on when the store is full.
    role = alliance.until(met_by, "one of them meets a full store")
    shown, effect = {"reducer": ("reducer", "Aggregate"), "combiner": ("combiner combiner-1", "Close")}[role]
    metrics = alliance.node(role).metrics()
    assert 'fedmq_store_up{store="blob_store"} 0' in metrics
    assert f'fedmq_retries_total{{effect="{effect}",store="blob_store"}}' in metrics
    alliance.soon(lambda: f"{shown} waits: {where}" in alliance.status(), "fedmq status")
    name = f"{role} {alliance.node(role).health()['name']}"
    alliance.soon(lambda: alliance.recorded("stall.began", "blob_store", name), "event")
    alliance.s3.is_full = False
    alliance.soon(lambda: alliance.shows(role, "blob_store", "ok"), "the end in /health")


def test_hung_records_are_shown_by_a_status_that_does_not_hang(alliance: Stallable) -> None:
    begun = alliance.stalls_begun("reducer")
    alliance.mongo.hang()
    reducer = alliance.node("reducer")
    alliance.soon(lambda: "MongoDB at 127.0.0.1 does not answer, since" in reducer.health()["records"], "/health")
    assert alliance.page("reducer", "/health")[0] == 200
    assert alliance.page("reducer", "/ready")[0] == 503
    assert 'fedmq_store_up{store="records"} 0' in reducer.metrics()
    alliance.soon(lambda: alliance.stalls_begun("reducer") == begun + 1, "the metric of events")
    assert "the records can't be read, so nothing is decided: MongoDB at 127.0.0.1 does not answer" in alliance.status()
    alliance.mongo.flow()
    alliance.soon(lambda: "session long: running" in alliance.status(), "the end in fedmq status")
    process = f"reducer {reducer.health()['name']}"
    alliance.until(lambda: alliance.recorded("stall.began", "records", process), "the event, recorded later")


@pytest.mark.parametrize(
    ("reason", "alarm", "end"),
    [
        ("low on disk", ("set_disk_free_limit", "500000GB"), ("set_disk_free_limit", "100MB")),
        ("low on memory", ("set_vm_memory_high_watermark", "0.00001"), ("set_vm_memory_high_watermark", "0.4")),
    ],
)
def test_a_blocked_broker_is_shown_by_every_role(
    alliance: Stallable, reason: str, alarm: tuple[str, str], end: tuple[str, str]
) -> None:
    broker, begun = alliance.servers.rabbitmq, alliance.stalls_begun("reducer")
    broker.control(*alarm)
    try:
        for role in ("reducer", "combiner", "client"):
            node = alliance.node(role)
            alliance.soon(partial(alliance.shows, role, "broker", f"blocked: {reason}, since "), f"/health of {role}")
            assert "fedmq_broker_blocked 1" in node.metrics()
            assert alliance.page(role, "/ready")[0] == 503
            assert alliance.page(role, "/health")[0] == 200
        alliance.soon(lambda: f"the broker accepts no messages ({reason}), since" in alliance.status(), "status")
        alliance.soon(lambda: alliance.stalls_begun("reducer") > begun, "the metric of events")
    finally:
        broker.control(*end)
    alliance.soon(lambda: alliance.node("reducer").health()["broker"] == "connected", "the end in /health")
    process = f"reducer {alliance.node('reducer').health()['name']}"
    alliance.until(lambda: alliance.recorded("stall.ended", "broker", process, reason), "the event of the end")


def test_a_broker_that_hangs_is_shown_by_every_role_and_all_goes_on_after_it(alliance: Stallable) -> None:
    began = time.time()
    with alliance.servers.rabbitmq.halted():
        for role in ("reducer", "combiner", "client"):
            alliance.soon(partial(alliance.shows, role, "broker", "away"), f"/health of {role}")
            assert "fedmq_broker_connected 0" in alliance.node(role).metrics()
            assert alliance.page(role, "/ready")[0] == 503
            assert alliance.page(role, "/health")[0] == 200
        # On a busy machine the connection may have been given up by now, which is shown in other words.
        words = "the broker does not answer", "there is no connection to the broker"
        alliance.soon(
            lambda: any(f"reducer waits: {each}, since" in alliance.status() for each in words), "fedmq status"
        )
    committed = alliance.round_of("long")
    process = f"reducer {alliance.node('reducer').health()['name']}"
    since = began - 5.0  # RabbitMQ's last byte may be older than the halt
    alliance.until(
        lambda: any(alliance.recorded("stall.began", "broker", process, each, since) for each in words),
        "the event, later",
    )
    alliance.await_round("long", committed + 1)


@pytest.mark.parametrize("store", ["blob_store", "records"])
def test_a_store_whose_process_is_halted_is_shown_and_all_goes_on_after_it(alliance: Stallable, store: str) -> None:
    servers, reducer = alliance.servers, alliance.node("reducer")
    words = {
        "blob_store": f"the S3 server at 127.0.0.1:{alliance.s3.port} does not answer, since",
        "records": "MongoDB at 127.0.0.1 does not answer, since",
    }[store]
    committed, began = alliance.round_of("long"), time.time()
    with servers.s3.halted() if store == "blob_store" else servers.mongo.halted():
        alliance.soon(lambda: words in reducer.health()[store], "/health")
        assert alliance.page("reducer", "/ready")[0] == 503
        assert f'fedmq_store_up{{store="{store}"}} 0' in reducer.metrics()
        alliance.soon(lambda: words in alliance.status(), "fedmq status")
    process = f"reducer {reducer.health()['name']}"
    alliance.until(lambda: alliance.recorded("stall.began", store, process, began=began), "the event")
    alliance.await_round("long", committed + 1)


def test_a_combiner_that_is_halted_is_away_and_all_goes_on_after_it(alliance: Stallable) -> None:
    def state() -> str:
        document = alliance.records.get(tables.COMBINERS, "combiner-1")
        return "" if document is None else str(document["state"])

    committed, combiner = alliance.round_of("long"), alliance.node("combiner")
    combiner.signal(signal.SIGSTOP)
    try:
        alliance.until(lambda: state() == "away", "the combiner is away")
        assert "0 of 1 combiners" in alliance.status()
    finally:
        combiner.signal(signal.SIGCONT)
    alliance.until(lambda: state() == "present", "the combiner is present again")
    alliance.await_round("long", committed + 1)


def test_an_open_round_says_who_has_not_answered(alliance: Stallable) -> None:
    client = alliance.node("client")
    client.signal(signal.SIGSTOP)
    try:
        show = ("session", "show", "long")
        alliance.until(lambda: "is open: 0 of 1 clients have answered, deadline" in alliance.fedmq(*show), "open round")
        assert "client-1  combiner-1  not yet, asked" in alliance.fedmq(*show)
        assert "asked, and not yet answered" in alliance.fedmq("clients", "--why", "long")
    finally:
        client.signal(signal.SIGCONT)


def test_after_all_stalls_each_model_is_what_its_ledger_says(alliance: Stallable) -> None:
    alliance.stop_session("long")
    assert alliance.await_end("long")["state"] == "stopped"
    alliance.check_ledgers("long", rounds=alliance.round_of("long"))
