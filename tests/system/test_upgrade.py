"""Processes of the release before this one, in an alliance with processes of this one. See docs/how-to/upgrade.md."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from fedmq_schemas import records as tables
from support import releases
from support.waiting import until
from system.deployment import Deployment, Servers

pytestmark = pytest.mark.system
POLICY: dict[str, Any] = {
    "seed": "seed-system",
    "rounds": 2,
    "clients_required": 2,
    "timeout": 60,
    "random_seed": 7,
    "wait": 60,
    "train": {"seconds": 0.1},
}


@pytest.fixture(scope="module")
def release_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The value of PYTHONPATH for the release before this one. A shallow checkout does not have it, in CI either."""
    if (missing := releases.missing()) is not None:
        pytest.skip(missing)
    return releases.python_path(releases.unpack(tmp_path_factory.mktemp("before")))


class Mixed(Deployment):
    """One reducer, one combiner and two clients, each of either release."""

    before: dict[str, str]
    now: dict[str, str]

    def begin(self, release_path: str, *, old: set[str]) -> Mixed:
        """Starts all roles and puts the seed; those in `old` are of the release before this one."""
        self.before, self.now = {"PYTHONPATH": release_path}, {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        for role, number in (("reducer", 1), ("combiner", 1), ("client", 1), ("client", 2)):
            self.add(role, number, **(self.before if f"{role}-{number}" in old else self.now))
        self.await_present(tables.CLIENTS, 2)
        self.seed()
        return self

    def replace(self, name: str, settings: dict[str, str]) -> None:
        """Ends a process in order, and starts it anew with its identity and the code of `settings`."""
        node = self.nodes[name]
        assert node.stop() == 0
        node.environment |= settings
        node.start()

    def train(self, session: str, **policy: Any) -> None:
        """Runs a session to its end, and recomputes its models."""
        chosen = POLICY | policy
        self.start_session(session, **chosen)
        ended = self.await_end(session)
        assert ended["state"] == "finished", ended["reason"]
        self.check_ledgers(session, rounds=chosen["rounds"])


@pytest.fixture
def alliance(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[Mixed]:
    servers.start()
    with Mixed(tmp_path / "alliance", servers, f"upgrade-{request.node.name[:20]}".replace("_", "-")) as deployment:
        yield deployment


@pytest.fixture
def waiting_alliance(servers: Servers, tmp_path: Path) -> Iterator[Mixed]:
    """In which nothing but answers to tasks reaches a combiner's inbox for a minute."""
    servers.start()
    with Mixed(tmp_path / "alliance", servers, "upgrade-waiting", presence=60.0) as deployment:
        yield deployment


def waiting(alliance: Mixed, queue: str) -> int | None:
    """Returns how many messages wait in a queue; None if there is no such queue."""
    with closing(pika.BlockingConnection(pika.URLParameters(alliance.servers.rabbitmq.url))) as connection:
        try:
            found = connection.channel().queue_declare(f"{alliance.alliance}.{queue}", passive=True)
        except ChannelClosedByBroker:
            return None
        return int(found.method.message_count)


def is_gone(alliance: Mixed, queue: str) -> bool:
    return waiting(alliance, queue) is None


def is_past(moment: float) -> bool:
    return time.monotonic() > moment


def kill_combiner_while_clients_train(alliance: Mixed, session: str) -> None:
    """Kills the combiner at a moment after which the updates of both clients wait in its inbox."""
    combiner = alliance.nodes["combiner-1"]
    for round_number, seconds in ((1, 1.0), (3, 2.0), (5, 3.0), (7, 2.0)):
        # After a commit, so that trainings of four seconds have most likely begun.
        alliance.await_round(session, round_number)
        until(partial(is_past, time.monotonic() + seconds), "the next training")
        combiner.kill()
        with suppress(TimeoutError):
            until(lambda: waiting(alliance, "combiner.combiner-1.v1") == 2, "both updates wait", 15.0, every=0.5)
            return
        combiner.start()
    raise AssertionError("the combiner was never killed during a training")


def test_messages_that_wait_in_queues_of_the_version_before_are_not_lost(
    waiting_alliance: Mixed, release_path: str
) -> None:
    alliance = waiting_alliance
    alliance.begin(release_path, old={"reducer-1", "combiner-1", "client-1", "client-2"})
    nonsense = {"exchange": "update", "key": "update.combiner-1.client-1"}
    alliance.publish({"kind": "nonsense", "id": "before"}, **nonsense)
    until(lambda: waiting(alliance, "dead.v1") == 1, "a dead letter of the version before", every=0.5)
    alliance.start_session("waited", **POLICY | {"rounds": 8, "timeout": 600, "train": {"seconds": 4.0}})
    kill_combiner_while_clients_train(alliance, "waited")
    alliance.nodes["reducer-1"].kill()
    alliance.publish({"kind": "nonsense", "id": "after"}, **nonsense)
    alliance.start_session("begun-by-this-release", **POLICY)

    for name in ("reducer-1", "combiner-1"):
        alliance.nodes[name].environment |= alliance.now
        alliance.nodes[name].start()
    for session, rounds in (("waited", 8), ("begun-by-this-release", 2)):
        ended = alliance.await_end(session)
        assert ended["state"] == "finished", ended["reason"]
        alliance.check_ledgers(session, rounds=rounds)
        retried = alliance.records.count(tables.EVENTS, {"session": session, "name": "round.retried"})
        assert retried == 0, "the updates that waited were counted"
    for queue in ("combiner.combiner-1.v1", "dead.v1"):
        until(partial(is_gone, alliance, queue), f"{queue} is deleted", every=0.5)
    wanted = {"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"}
    letters = alliance.servers.rabbitmq.manage("POST", f"queues/%2F/{alliance.alliance}.dead.v2/get", wanted)
    inbox = f"{alliance.alliance}.combiner.combiner-1.v1"
    found = {(each["payload"], each["routing_key"]) for each in letters}
    # One that the combiner rejects before the reducer has started is in both queues.
    assert found == {(json.dumps({"kind": "nonsense", "id": name}), inbox) for name in ("before", "after")}
    assert all("unknown kind 'nonsense'" in each["properties"]["headers"]["x-fedmq-reason"] for each in letters)


def validated(alliance: Mixed, session: str) -> set[tuple[int, str]]:
    """Returns which round's model was validated by whom, where that gave a metric."""
    found = alliance.records.find(tables.VALIDATIONS, {"session": session})
    return {(each["round"], each["client"]) for each in found if "mse" in each["metrics"]}


def test_old_clients_and_old_and_new_ones_together_train_and_validate_the_same_models_as_new_ones(
    alliance: Mixed, release_path: str
) -> None:
    alliance.begin(release_path, old={"client-1", "client-2"})
    alliance.train("old")
    alliance.replace("client-1", alliance.now)
    alliance.train("one-of-each")
    alliance.replace("client-2", alliance.now)
    alliance.train("new")

    everyone = {(number, f"client-{client}") for number in range(3) for client in (1, 2)}
    assert validated(alliance, "old") == validated(alliance, "one-of-each") == validated(alliance, "new") == everyone
    models = {alliance.final_sha256(session) for session in ("old", "one-of-each", "new")}
    assert len(models) == 1


def test_servers_are_upgraded_and_rolled_back_during_a_session(alliance: Mixed, release_path: str) -> None:
    servers = ("reducer-1", "combiner-1")
    alliance.begin(release_path, old={*servers, "client-1"})
    alliance.start_session("replaced", **POLICY | {"rounds": 800})
    alliance.await_round("replaced", 1)
    for name in servers:
        alliance.replace(name, alliance.now)
        alliance.await_round("replaced", alliance.round_of("replaced") + 2)
    alliance.start_session("needs-this-release", **POLICY | {"personal": "continue"})
    alliance.until(lambda: alliance.records.get(tables.SESSIONS, "needs-this-release"), "a queued session")
    for name in servers:
        alliance.replace(name, alliance.before)
        alliance.await_round("replaced", alliance.round_of("replaced") + 2)
    alliance.stop_session("replaced")

    assert alliance.await_end("replaced")["state"] == "stopped"
    alliance.check_ledgers("replaced", rounds=alliance.round_of("replaced"))
    unknown = alliance.await_end("needs-this-release")
    assert unknown["state"] == "failed"
    assert "personal" in unknown["reason"]
