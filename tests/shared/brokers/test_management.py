"""RabbitMQ's management API: its answers, and its failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fedmq.brokers.base import Depth
from fedmq.brokers.rabbitmq.broker import RabbitmqBroker
from fedmq.brokers.rabbitmq.management import Management
from fedmq.errors import ConfigError, Transient
from fedmq.scheduler import ThreadScheduler
from fedmq_schemas.topology import Topology
from support.servers.rabbitmq import RabbitmqServer

DEADLINE = 30.0
AMQP = "amqp://us%40er:pass%2Fword@localhost:5672/%2F"


@contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server with one answer for every request; yields its URL and the requests' paths and credentials."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_alliances_queues_are_listed_by_name() -> None:
    body = (
        b'[{"name":"a.z.v1","messages_ready":1,"messages_unacknowledged":2,"consumers":3},{"name":"a.b.v1"},'
        b'{"name":"ab.c.v1","messages_ready":9}]'
    )
    with answering(200, body) as (url, asked):
        assert Management(AMQP, url).depths("a") == [Depth("a.b.v1", 0, None, 0), Depth("a.z.v1", 1, 2, 3)]
    path, credentials = asked[0]
    assert path.startswith("/api/queues/%2F?columns=")
    assert credentials == "Basic dXNAZXI6cGFzcy93b3Jk"


def test_a_missing_tag_is_named_with_the_remedy() -> None:
    remedy = "check its password, or give it the tag monitoring"
    with answering(401, b"{}") as (url, _), pytest.raises(ConfigError, match=remedy):
        Management(AMQP, url).depths("a")


def test_no_roles_account_is_made_an_administrator() -> None:
    remedy = "this needs an administrator's account: name one in FEDN_AMQP_URL for this command alone$"
    with answering(401, b"{}") as (url, _), pytest.raises(ConfigError, match=remedy):
        Management(AMQP, url).call("GET", "users/site-1")


@pytest.mark.parametrize(("status", "body"), [(503, b""), (200, b"<html>")])
def test_another_answer_may_be_better_next_time(status: int, body: bytes) -> None:
    with answering(status, body) as (url, _), pytest.raises(Transient):
        Management(AMQP, url).depths("a")


def test_an_api_that_is_away_is_a_transient_error() -> None:
    with pytest.raises(Transient, match=r"does not answer at http://127\.0\.0\.1:1/api"):
        Management(AMQP, "http://127.0.0.1:1").depths("a")


@pytest.mark.system
def test_a_real_brokers_queues_are_seen(rabbitmq_server: RabbitmqServer) -> None:
    scheduler, topology = ThreadScheduler(), Topology("seen")
    connection = RabbitmqBroker(rabbitmq_server.url, scheduler).connect("looker")
    scheduler.post(lambda: connection.declare(topology.dead()))
    runner = threading.Thread(target=scheduler.run)
    runner.start()
    management = Management(rabbitmq_server.url, rabbitmq_server.management_url)
    try:
        deadline = time.monotonic() + DEADLINE
        while not (found := management.depths("seen")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [depth.name for depth in found] == [topology.dead().name]
    finally:
        scheduler.post(connection.close)
        scheduler.post(scheduler.stop)
        runner.join(30)
        scheduler.close()
        rabbitmq_server.manage("DELETE", f"queues/%2F/{topology.dead().name}")
