"""The broker port in this process: exchanges, queues and their rules, for the sandbox and tests."""

from fedmq.brokers.base import Administration
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.errors import ConfigError
from fedmq.scheduler import Scheduler


def open_broker(url: str, scheduler: Scheduler) -> MemoryBroker:
    """Returns a new, empty broker. The URL is `memory:` without anything after it."""
    return MemoryBroker(scheduler)


def open_administration(url: str, api_url: str | None) -> Administration:
    """Raises ConfigError: a broker inside a process has neither a server nor accounts."""
    raise ConfigError("the broker memory: lives in one process, so there is no server to look at")
