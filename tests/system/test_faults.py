"""Anything may be killed, stopped or cut off during a session, and the final model is the same to the last bit."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from fedmq_schemas import records as tables
from support.servers.proxy import Proxy
from support.servers.unreliable import UnreliableHttp
from support.waiting import promised, until
from system.conftest import FAULT_POLICY
from system.deployment import Deployment
from system.node import Node

pytestmark = pytest.mark.system

OUTAGE = 10.0
TAKE_OVER = 15.0


def survives(alliance: Deployment, undisturbed: str, name: str, blow: Callable[[], object]) -> None:
    """A session that `blow` strikes after its first round ends with the undisturbed one's model and a whole ledger."""
    session = f"fault-{name}"
    alliance.start_session(session, **FAULT_POLICY)
    alliance.await_round(session, 1)

    blow()

    ended = alliance.await_end(session)
    assert (ended["state"], ended["reason"]) == ("finished", "")
    alliance.check_ledgers(session, rounds=FAULT_POLICY["rounds"])
    assert alliance.final_sha256(session) == undisturbed


def restart(node: Node) -> None:
    node.kill()
    node.start()


@contextmanager
def redirected(nodes: Sequence[Node], **settings: str) -> Iterator[None]:
    """Restarts nodes with other settings, and at the end with their own again."""
    own = [node.environment for node in nodes]
    try:
        for node in nodes:
            node.environment = node.environment | settings
            restart(node)
        yield
    finally:
        for node, environment in zip(nodes, own, strict=True):
            node.environment = environment
            restart(node)


def outage(stop: Callable[[], None], start: Callable[[], object], seconds: float = OUTAGE) -> None:
    """A server is away for some time, 10 s by default, on the test's own clock: that is the fault."""
    stop()
    time.sleep(seconds)
    start()


def test_a_killed_and_restarted_reducer_changes_nothing(alliance: Deployment, undisturbed: str) -> None:
    standby = next(
        node for node in alliance.nodes.values() if node.role == "reducer" and node is not alliance.active_reducer()
    )
    standby.kill()
    survives(alliance, undisturbed, "reducer", lambda: restart(alliance.active_reducer()))


def restart_two_clients(alliance: Deployment) -> None:
    for number in (1, 4):
        restart(alliance.nodes[f"client-{number}"])


def restart_rabbitmq(alliance: Deployment) -> None:
    alliance.servers.rabbitmq.stop()
    alliance.servers.rabbitmq.start()


def kill_rabbitmq(alliance: Deployment) -> None:
    alliance.servers.rabbitmq.kill()
    alliance.servers.rabbitmq.start()


BLOWS: dict[str, Callable[[Deployment], object]] = {
    "combiner": lambda alliance: restart(alliance.nodes["combiner-1"]),
    "combiner-gone": lambda alliance: alliance.nodes["combiner-2"].kill(),
    "clients": restart_two_clients,
    "rabbitmq-stop": restart_rabbitmq,
    "rabbitmq-kill": kill_rabbitmq,
    "blobs": lambda alliance: outage(alliance.servers.s3.kill, alliance.servers.s3.start),
    "records": lambda alliance: outage(alliance.servers.mongo.kill, alliance.servers.mongo.start),
}
"""Killed and restarted, or killed for good, or away for a while."""


@pytest.mark.parametrize("name", BLOWS)
def test_a_process_or_server_that_is_killed_changes_nothing(alliance: Deployment, undisturbed: str, name: str) -> None:
    survives(alliance, undisturbed, name, lambda: BLOWS[name](alliance))


def test_a_client_whose_connection_drops_while_it_trains_delivers_what_it_has_trained(alliance: Deployment) -> None:
    training, cut_off = 4.0, 1.5
    node, proxy = alliance.nodes["client-3"], Proxy(alliance.servers.rabbitmq.port)
    with closing(proxy), redirected([node], FEDN_AMQP_URL=f"amqp://guest:guest@127.0.0.1:{proxy.port}/"):
        alliance.await_state(node, "attached")
        alliance.start_session("cut-off", **FAULT_POLICY | {"rounds": 2, "train": {"seconds": training}})
        alliance.until(lambda: 'received_total{kind="task"' in node.metrics(), "task of the client")
        outage(proxy.down, proxy.up, cut_off)
        assert alliance.round_of("cut-off") == 0

        assert alliance.await_end("cut-off")["state"] == "finished"
        first, _ = alliance.check_ledgers("cut-off", rounds=2)
        [entry] = [entry for entry in first.entries if entry.client == node.name]
        assert entry.outcome == "accepted"
        assert training <= entry.seconds["total"] < training + cut_off, "it trained once"


def test_a_slow_link_is_not_a_dead_link(alliance: Deployment) -> None:
    slow = Proxy(alliance.servers.s3.port, rate=80)
    combiners = [node for node in alliance.nodes.values() if node.role == "combiner"]
    vanished = alliance.records.count(tables.EVENTS, {"name": "client.vanished"})
    with closing(slow), redirected(combiners, FEDN_MINIO_PUBLIC_URL=f"http://127.0.0.1:{slow.port}"):
        alliance.start_session("slow", **FAULT_POLICY | {"rounds": 1})
        assert alliance.await_end("slow")["state"] == "finished"

        [ledger] = alliance.check_ledgers("slow", rounds=1)
        fetched = [entry.seconds["fetch"] for entry in ledger.entries]
        assert len(fetched) == 6 and min(fetched) > 3 * alliance.presence
        assert alliance.records.count(tables.EVENTS, {"name": "client.vanished"}) == vanished


@pytest.mark.parametrize("delivered", [True, False], ids=["after the commit", "before the commit"])
def test_a_link_to_the_record_store_that_breaks_at_a_commit_changes_nothing(
    alliance: Deployment, undisturbed: str, delivered: bool
) -> None:
    name, proxy = f"commit-{delivered}", Proxy(alliance.servers.mongo.port)
    reducers = [node for node in alliance.nodes.values() if node.role == "reducer"]
    with closing(proxy), redirected(reducers, FEDN_MONGO_PORT=str(proxy.port)):
        alliance.heal()
        insert_a_round = b"\x02insert\x00\x07\x00\x00\x00rounds\x00"
        survives(alliance, undisturbed, name, lambda: proxy.trap(insert_a_round, delivered=delivered))
        assert proxy.sprung.is_set()
        alliance.check_each_round_once(f"fault-{name}")


def test_a_blob_store_that_answers_every_tenth_request_with_a_fault_changes_nothing(
    alliance: Deployment, undisturbed: str
) -> None:
    store = UnreliableHttp(alliance.servers.s3.port, percent=10)
    servers = [node for node in alliance.nodes.values() if node.role != "client"]
    with closing(store), redirected(servers, FEDN_MINIO_PORT=str(store.port)):
        alliance.heal()
        survives(alliance, undisturbed, "unreliable", lambda: None)
        assert min(store.failed.values()) > 0, store.failed


def test_everything_killed_at_once_goes_on_where_it_was(alliance: Deployment, undisturbed: str) -> None:
    def blow() -> None:
        for node in alliance.nodes.values():
            node.signal(signal.SIGKILL)
        alliance.servers.rabbitmq.kill()
        alliance.servers.s3.kill()
        alliance.servers.mongo.kill()
        alliance.servers.start()
        for node in alliance.nodes.values():
            restart(node)

    survives(alliance, undisturbed, "everything", blow)


def test_the_standby_takes_over_from_a_reducer_that_is_killed_between_partial_and_commit(
    alliance: Deployment, undisturbed: str
) -> None:
    def blow() -> None:
        active = alliance.active_reducer()
        partials = "updates/fault-take-over/000002/partial-"
        until(lambda: list(alliance.blobs.list(partials)), "a partial", every=0)  # the commit follows at once
        active.kill()
        began = time.monotonic()
        assert alliance.round_of("fault-take-over") == 1
        alliance.active_reducer(other_than=active, seconds=promised(TAKE_OVER))
        print(f"took over {time.monotonic() - began:.1f} s after the kill")

    survives(alliance, undisturbed, "take-over", blow)
    alliance.check_each_round_once("fault-take-over")


def test_the_standby_takes_over_from_a_reducer_that_hangs_and_that_one_disturbs_nothing_when_it_wakes(
    alliance: Deployment, undisturbed: str
) -> None:
    hung: list[Node] = []

    def blow() -> None:
        hung.append(alliance.active_reducer())
        hung[0].signal(signal.SIGSTOP)
        began = time.monotonic()
        alliance.active_reducer(other_than=hung[0], seconds=promised(TAKE_OVER))
        alliance.await_round("fault-hung", 2, seconds=promised(TAKE_OVER))
        print(f"the next round was committed {time.monotonic() - began:.1f} s after the halt")
        hung[0].signal(signal.SIGCONT)

    survives(alliance, undisturbed, "hung", blow)
    alliance.check_each_round_once("fault-hung")
    alliance.until(lambda: hung[0].health()["state"] == "standby", "standby")


def test_sigterm_ends_every_role_within_10_seconds_and_the_session_goes_on(
    alliance: Deployment, undisturbed: str
) -> None:
    def blow() -> None:
        nodes = [alliance.active_reducer(), alliance.nodes["combiner-1"], alliance.nodes["client-2"]]
        with ThreadPoolExecutor() as threads:
            assert list(threads.map(lambda node: node.stop(promised(10.0)), nodes)) == [0, 0, 0]
        for node in nodes:
            node.start()

    survives(alliance, undisturbed, "drained", blow)
