"""A reducer finds out that the broker is blocked although it publishes nothing else, and says so to who starts a session."""

from __future__ import annotations

import pytest

from fedmq.brokers.base import Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.errors import Transient
from fedmq.scheduler import VirtualScheduler
from fedmq_reducer.broker_check import BrokerCheck
from fedmq_reducer.web.api import publisher
from fedmq_reducer.web.api.publisher import ControlPublisher
from fedmq_schemas.messages import Start
from fedmq_schemas.policy import Policy
from fedmq_schemas.topology import EXCHANGES, Topology

ALLIANCE = Topology("a")


class Blockable:
    """A connection to a broker that can be blocked, and what is published on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scheduler = VirtualScheduler()
        self.blocked = ""
        self.published: list[Outgoing] = []
        self.connection = MemoryBroker(self.scheduler).connect("api")
        monkeypatch.setattr(type(self.connection), "blocked", property(lambda _: self.blocked))
        monkeypatch.setattr(self.connection, "publish", lambda message, _=None: self.published.append(message))


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Blockable:
    return Blockable(monkeypatch)


def test_a_message_to_nobody_is_published_every_two_seconds_but_not_while_blocked(broker: Blockable) -> None:
    check = BrokerCheck(broker.connection, broker.scheduler, ALLIANCE)
    check.start()
    broker.scheduler.run(limit=5.0)
    assert len(broker.published) == 3
    broker.blocked = "low on disk"
    broker.scheduler.run(limit=9.0)
    assert len(broker.published) == 3
    broker.blocked = ""
    broker.scheduler.run(limit=10.5)
    assert len(broker.published) == 4
    check.leave(0.0)
    broker.scheduler.run()
    assert len(broker.published) == 4


def test_no_queue_of_the_alliance_receives_that_message(broker: Blockable) -> None:
    BrokerCheck(broker.connection, broker.scheduler, ALLIANCE).start()
    [message] = broker.published
    assert message.exchange in {ALLIANCE.exchange(name) for name in EXCHANGES}
    queues = (ALLIANCE.reducer(), ALLIANCE.combiner("k1"), ALLIANCE.client("c1"), ALLIANCE.records(), ALLIANCE.dead())
    assert not any(queue.receives(message.exchange, message.routing_key) for queue in queues)


def test_a_start_that_a_blocked_broker_does_not_take_says_why(
    broker: Blockable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "CONFIRM_SECONDS", 0.0)
    publish = ControlPublisher(broker.connection, broker.scheduler, ALLIANCE, "api")
    with pytest.raises(Transient, match="the broker does not answer"):
        publish(Start(policy=Policy()), "s1")
    broker.blocked = "low on disk"
    with pytest.raises(Transient, match=r"accepts no messages \(low on disk\), and receives this one once it does"):
        publish(Start(policy=Policy()), "s1")
