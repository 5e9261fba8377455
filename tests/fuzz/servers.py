"""Sends fuzzed messages of one account to real processes while a session runs, and checks that nobody is harmed.

    python -m fuzz.servers --messages 100000

Run it in `tests`, or with that folder on `PYTHONPATH`. The alliance has a reducer, two combiners and four honest clients
with accounts of their own at RabbitMQ. The hostile account publishes `--rate` messages a second. Then as many rounds are
run undisturbed, which must make the same model. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from fedmq import codec
from fedmq.brokers.memory.topics import TopicTable
from fedmq.brokers.rabbitmq.accounts import RabbitmqAccounts
from fedmq.brokers.rabbitmq.management import Management
from fedmq.errors import LONGEST_REASON, ProtocolError
from fedmq.records.sqlite import SqliteRecords
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Attach, ClientHello, Grant, TaskMessage
from fedmq_schemas.topology import Topology, assignment_request_key, update_key
from fuzz.member import ME
from fuzz.messages import Hostile, Names, Sent
from system.deployment import Deployment, private_servers

CLIENTS, COMBINERS = 4, 2
WITH_SQLITE = """
import sys
from fedmq.records.sqlite import SqliteRecords
from fedmq_cli.app import app
from fedmq_reducer import app as reducer

reducer.open_records = lambda settings: SqliteRecords(settings.state_dir.parent / "records.db", fsync=True)
app(["run", sys.argv[1]])
"""
MOST_MEGABYTES = {"reducer": 250.0, "combiner": 120.0, "rabbitmq": 400.0}
MOST_SLOWER = 3.0
END_SECONDS = 600.0
POLICY: dict[str, Any] = {
    "clients_required": CLIENTS,
    "timeout": 120,
    "retries": 1000,
    "wait": 600,
    "random_seed": 7,
    "validation_timeout": 30,
    "train": {"seconds": 0.3},
    "clients": {"exclude": [ME]},
}

Say = Callable[[str], None]


@dataclass
class AccountedDeployment(Deployment):
    """Each client has an account of its own, with the permissions of a client."""

    urls: dict[str, str] = field(default_factory=dict)

    def environment(self, name: str) -> dict[str, str]:
        """Returns the settings of a role; a client has the URL of its own account."""
        found = super().environment(name) | {"FEDN_MONGO_CONNECTIONS": "1"}
        return found | ({"FEDN_AMQP_URL": self.url_of(name)} if name.startswith("client-") else {})

    def url_of(self, name: str) -> str:
        """Returns the URL with the account of a client, which is created if it is new."""
        if name not in self.urls:
            broker = self.servers.rabbitmq
            accounts = RabbitmqAccounts(Management(broker.url, broker.management_url), Topology(self.alliance))
            self.urls[name] = f"amqp://{name}:{accounts.add(name)}@127.0.0.1:{broker.port}/"
        return self.urls[name]

    def megabytes(self) -> dict[str, float]:
        """Returns the resident memory of servers' processes and the broker, by role: the largest of each."""
        broker = self.servers.rabbitmq
        node = broker.manage("GET", "nodes")[0]["name"]
        total = broker.manage("GET", f"nodes/{node}/memory")["memory"]["total"]
        found = {"rabbitmq": total["erlang"] / 2**20}
        for each in self.nodes.values():
            assert each.process is not None
            status = Path(f"/proc/{each.process.pid}/status").read_text()
            resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
            found[each.role] = max(found.get(each.role, 0.0), resident)
        return found

    def depths(self) -> dict[str, int]:
        """Returns the queues that hold messages, and how many."""
        found = self.servers.rabbitmq.manage("GET", "queues/%2F?columns=name,messages")
        own = [each for each in found if each["name"].startswith(f"{self.alliance}.") and each.get("messages")]
        return {each["name"]: each["messages"] for each in own}


class Account:
    """The hostile account's connection. It attaches, says hello, and publishes what `Hostile` draws."""

    def __init__(self, deployment: AccountedDeployment, session: str, seed: int) -> None:
        self._topology = Topology(deployment.alliance)
        clients = [f"client-{number}" for number in range(1, CLIENTS + 1)]
        combiners = [f"combiner-{number}" for number in range(1, COMBINERS + 1)]
        self._hostile = Hostile(seed, Names(deployment.alliance, ME, clients, combiners, [session]))
        self._connection = pika.BlockingConnection(pika.URLParameters(deployment.url_of(ME)))
        self._channel: BlockingChannel = self._connection.channel()
        self._mailbox: BlockingChannel = self._connection.channel()
        self.sent: list[Sent] = []
        envelope = {"kind": "attach", "id": "attach", "sender": ME}
        body = codec.encode(envelope, Attach().model_dump())
        self.publish(Sent("assignment", assignment_request_key(ME), body, codec.MSGPACK, "attach"))

    def publish(self, message: Sent) -> None:
        """Publishes one message, with its second key in the header CC."""
        headers: dict[str, Any] | None = {"CC": [message.copy]} if message.copy else None
        properties = pika.BasicProperties(
            message.content_type, message_id=message.message_id, user_id=ME, headers=headers
        )
        exchange = self._topology.exchange(message.exchange)
        self._channel.basic_publish(exchange, message.key, message.body, properties)

    def flood(self, count: int, rate: float) -> None:
        """Publishes `count` messages, `rate` a second."""
        began = time.monotonic()
        for number in range(count):
            message = self._hostile.draw()
            self.sent.append(message)
            self.publish(message)
            if number % 100 == 0:
                self._receive()
            ahead = number / rate - (time.monotonic() - began)
            if ahead > 0.01:
                self._connection.sleep(ahead)

    def _receive(self) -> None:
        """Reads the mailbox, and registers with the combiner that it names."""
        while True:
            try:
                method, _, body = self._mailbox.basic_get(self._topology.client(ME).name, auto_ack=True)
            except ChannelClosedByBroker:  # the mailbox does not exist yet
                self._mailbox = self._connection.channel()
                return
            if method is None or body is None:
                return
            try:
                found = codec.decode(body, codec.MSGPACK, message_id="", alliance=self._topology.alliance).body
            except ProtocolError:
                continue
            if isinstance(found, Grant):
                self._hostile.combiner = found.combiner
                hello = codec.encode({"kind": "client_hello", "id": "hello", "sender": ME}, ClientHello().model_dump())
                key = update_key(found.combiner, ME)
                self.publish(Sent("update", key, hello, codec.MSGPACK, "hello"))
            elif isinstance(found, TaskMessage):
                self._hostile.learn("model", found.model.key)

    def close(self) -> None:
        self._connection.close()


def use_sqlite(deployment: Deployment) -> None:
    """Has reducers that are started from now on, and the deployment itself, keep records in one SQLite file.

    The stand-in for MongoDB does not write as many records a second as a flood makes.
    """
    deployment.programs["reducer"] = (sys.executable, "-c", WITH_SQLITE)
    (deployment.folder / "state").mkdir()
    deployment.records.close()
    deployment.records = SqliteRecords(deployment.folder / "state" / "records.db", fsync=True)


def dead_letters(deployment: AccountedDeployment) -> list[tuple[str, str]]:
    """Takes all dead letters; returns the id and the reason of each."""
    found: list[tuple[str, str]] = []
    queue = Topology(deployment.alliance).dead().name
    with pika.BlockingConnection(pika.URLParameters(deployment.servers.rabbitmq.url)) as connection:
        channel = connection.channel()
        for method, properties, _ in channel.consume(queue, auto_ack=True, inactivity_timeout=3):
            if method is None or properties is None:
                break
            reason = (properties.headers or {}).get("x-fedmq-reason", "")
            found.append((str(properties.message_id), str(reason)))
        channel.cancel()
    return found


def seconds_a_round(deployment: Deployment, session: str) -> float:
    """Returns the mean time between two commits of the session."""
    rounds = deployment.records.find(tables.ROUNDS, {"session": session}, order="round")
    return float(rounds[-1]["committed_at"] - rounds[0]["committed_at"]) / max(1, len(rounds) - 1)


def run_fuzz(deployment: AccountedDeployment, messages: int, rate: float, seed: int, say: Say) -> list[str]:
    """Sends the messages during a session, runs one undisturbed, and returns everything that is wrong."""
    model, session = deployment.seed(), f"fuzzed-{seed}"
    deployment.start_session(session, seed=model, rounds=100_000, **POLICY)
    deployment.await_round(session, 1)
    pids = {name: node.process.pid for name, node in deployment.nodes.items() if node.process is not None}
    began, memory = time.monotonic(), Counter[str]()
    account = Account(deployment, session, seed)
    parts = max(1, messages // 3000)
    for _ in range(parts):
        account.flood(messages // parts, rate)
        memory |= Counter(deployment.megabytes())
        shown = ", ".join(f"{name} {mb:.0f} MB" for name, mb in memory.items())
        seconds, number = time.monotonic() - began, deployment.round_of(session)
        say(f"{seconds:6.0f} s  {len(account.sent):,} messages, round {number}, {shown}")
    account.close()
    rounds = deployment.round_of(session)
    deployment.await_round(session, rounds + 2, END_SECONDS)
    deployment.stop_session(session)
    ended = deployment.await_end(session, END_SECONDS)
    rounds = deployment.round_of(session)
    deployment.check_ledgers(session, rounds=rounds)
    slow = seconds_a_round(deployment, session)
    found = [] if ended["state"] == "stopped" else [f"the session is {ended['state']}: {ended['reason']}"]
    found += list(_after(deployment, account, pids))
    memory |= Counter(deployment.megabytes())

    calm = f"{session}-calm"
    deployment.start_session(calm, seed=model, rounds=rounds, **POLICY)
    ended = deployment.await_end(calm, END_SECONDS + 5 * rounds)
    usual = seconds_a_round(deployment, calm)
    say(
        f"{rounds} rounds of {slow:.2f} s with the messages, of {usual:.2f} s without: {slow / usual:.2f} times as long"
    )
    if slow > MOST_SLOWER * usual:
        found.append(f"rounds take {slow / usual:.1f} times as long")
    hashes = deployment.final_sha256(session), deployment.final_sha256(calm)
    say(f"models {hashes[0]} and, undisturbed, {hashes[1]}")
    if hashes[0] != hashes[1]:
        found.append("the models differ")
    found += [f"{role} uses {memory[role]:.0f} MB" for role, most in MOST_MEGABYTES.items() if memory[role] > most]
    say(", ".join(f"{name} at most {mb:.0f} MB" for name, mb in memory.items()))
    return found


def _after(deployment: AccountedDeployment, account: Account, pids: dict[str, int]) -> Iterator[str]:
    """Yields what is wrong with processes, queues, members and dead letters after the flood."""
    dead, letters = Topology(deployment.alliance).dead().name, dead_letters(deployment)

    def drained() -> bool:
        letters.extend(dead_letters(deployment))
        return not set(deployment.depths()) - {dead, Topology(deployment.alliance).client(ME).name}

    try:
        deployment.until(drained, "empty queues", END_SECONDS)
    except (AssertionError, TimeoutError):
        yield f"these queues hold messages: {deployment.depths()}"
    letters.extend(dead_letters(deployment))
    for name, node in deployment.nodes.items():
        if not node.is_running or (node.process is not None and node.process.pid != pids[name]):
            yield f"{name} has ended"
    for name in ("client.vanished", "combiner.vanished"):
        for event in deployment.records.find(tables.EVENTS, {"name": name}):
            if ME not in (event["client"], event["combiner"]):
                yield f"{event['client'] or event['combiner']} was declared vanished"
    if faults := deployment.records.find(tables.EVENTS, {"name": "actor.error"}):
        yield from {str(event["data"]["reason"])[:300] for event in faults if event["sender"] != ME}
    odd = [reason for _, reason in letters if not 0 < len(reason) <= LONGEST_REASON]
    if odd:
        yield f"{len(odd)} dead letters have no reason, or a long one: {odd[0][:200]!r}"
    reaches = _inboxes(Topology(deployment.alliance))
    invalid = {
        message.message_id
        for message in account.sent
        if not _is_valid(message, deployment.alliance) and reaches(message)
    }
    missing, away = len(invalid - {name for name, _ in letters}), turned_away(deployment)
    print(f"{len(letters):,} dead letters, {away:,} messages turned away, {len(invalid):,} invalid ones", flush=True)
    if missing > away:
        yield f"{missing} invalid messages left no trace, {away} were turned away"


def turned_away(deployment: Deployment) -> int:
    """Returns how many messages the inboxes report as turned away, by events and, for the recorder, in its log."""
    events = deployment.records.find(tables.EVENTS, {"name": "message.refused"})
    reasons = [str(event["data"].get("reason", "")) for event in events if event["sender"] != ME]
    for node in deployment.nodes.values():
        if node.role == "reducer":
            lines = [line for line in node.log.read_text(errors="replace").splitlines() if "events turned away" in line]
            reasons += [line[line.index(f" messages of {ME}") - 12 :] for line in lines if f" messages of {ME}" in line]
    counts = [
        reason.partition(f" messages of {ME} were turned away")[0] for reason in reasons if "were turned" in reason
    ]
    return sum(int("".join(filter(str.isdigit, count))) for count in counts)


def _inboxes(topology: Topology) -> Callable[[Sent], bool]:
    """Returns whether a message reaches a server. One that `CC` routes to a client alone is refused there, in its log."""
    bound: TopicTable[str] = TopicTable()
    combiners = (topology.combiner(f"combiner-{number}") for number in range(1, COMBINERS + 1))
    for queue in (topology.reducer(), topology.records(), *combiners):
        for binding in queue.bindings:
            bound.bind(f"{binding.exchange}|{binding.routing_key}", queue.name)
    return lambda message: bool(bound.match(f"{topology.exchange(message.exchange)}|{message.key}"))


def _is_valid(message: Sent, alliance: str) -> bool:
    try:
        codec.decode(message.body, message.content_type, message_id=message.message_id, alliance=alliance, user=ME)
    except ProtocolError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=300.0, help="messages a second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="fedmq-fuzz-"))
    servers = private_servers(folder)

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        servers.start()
        with AccountedDeployment(folder / "alliance", servers, "fuzz", presence=10.0) as deployment:
            use_sqlite(deployment)
            deployment.start(combiners=COMBINERS, clients=CLIENTS)
            found = run_fuzz(deployment, options.messages, options.rate, options.seed, say)
    except BaseException:
        say(f"logs are in {folder}")
        raise
    finally:
        servers.remove()
    say("\n".join(found) or "nobody was harmed")
    if found:
        say(f"logs are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
