"""A broker is opened by the scheme of its URL, and only then is its library imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.brokers.rabbitmq.broker import RabbitmqBroker
from fedmq.brokers.registry import open_administration, open_broker
from fedmq.errors import ConfigError
from fedmq.scheduler import VirtualScheduler

EMBEDDED = """
import sys
from fedmq.brokers.registry import open_broker
from fedmq.scheduler import VirtualScheduler

open_broker("memory:", VirtualScheduler())
print([name for name in ("pika", "fedmq.brokers.rabbitmq") if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("url", "broker", "account"),
    [
        ("memory:", MemoryBroker, None),
        ("amqp://north:hidden@broker.invalid/", RabbitmqBroker, "north"),
        ("amqps://north:hidden@broker.invalid/", RabbitmqBroker, "north"),
    ],
)
def test_a_broker_is_opened_by_the_scheme_of_its_url(url: str, broker: type, account: str | None) -> None:
    opened = open_broker(url, VirtualScheduler())
    assert isinstance(opened, broker)
    assert opened.account == account


@pytest.mark.parametrize("url", ["", "north:hidden@host", "nats://north:hidden@host"])
def test_a_url_without_an_adapter_is_refused_without_a_word_of_it(url: str) -> None:
    for call in (lambda: open_broker(url, VirtualScheduler()), lambda: open_administration(url)):
        with pytest.raises(ConfigError, match=r"FEDN_AMQP_URL must begin with one of: amqp:, amqps:, memory:$"):
            call()


def test_a_broker_inside_the_process_has_no_administration() -> None:
    with pytest.raises(ConfigError, match="no server to look at"):
        open_administration("memory:")


def test_the_embedded_broker_imports_no_servers_library() -> None:
    done = subprocess.run([sys.executable, "-c", EMBEDDED], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
