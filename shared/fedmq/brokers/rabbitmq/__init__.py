"""The broker port on RabbitMQ. Only these modules import pika."""

from fedmq.brokers.rabbitmq.administration import RabbitmqAdministration
from fedmq.brokers.rabbitmq.broker import RabbitmqBroker
from fedmq.scheduler import Scheduler


def open_broker(url: str, scheduler: Scheduler) -> RabbitmqBroker:
    """Returns the RabbitMQ of `amqp[s]://user:password@host:port/vhost`. Raises ConfigError if the URL can't be read."""
    return RabbitmqBroker(url, scheduler)


def open_administration(url: str, api_url: str | None) -> RabbitmqAdministration:
    """Returns RabbitMQ's administration. `api_url`: its management API; None: port 15672 of the broker's host."""
    return RabbitmqAdministration(url, api_url)
