"""Logs as JSON lines that lead from an event back to the message that caused it."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Sequence

import pytest

from fedmq import codec
from fedmq.brokers.base import Outgoing
from fedmq.brokers.memory.broker import MemoryBroker
from fedmq.process.logs import JsonLine, configure_service_logs
from fedmq.runtime.actor import Actor
from fedmq.runtime.effects import Ack, CoreEvent, Effect, Now, Publish, PublishEvent, Received
from fedmq.runtime.telemetry import ActorTelemetry
from fedmq.scheduler import VirtualScheduler
from fedmq_schemas import messages, topology
from fedmq_schemas.topology import Topology

ALLIANCE = Topology("a")


class Echo:
    """Publishes a hello and an event for each hello that it receives."""

    def __init__(self, key: str) -> None:
        self._key = key

    def handle(self, event: CoreEvent, now: Now) -> Sequence[Effect]:
        if not isinstance(event, Received):
            return ()
        reported = PublishEvent("update.accepted", "s1", 2, "c1", data={"reason": "because"})
        return [Ack((event.tag,)), reported, Publish("update", self._key, messages.ClientHello())]


def ids_of(name: str) -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"{name}-{next(numbers)}"


def telemetry_of_a_chain() -> dict[str, ActorTelemetry]:
    """A message with the id `root` reaches `one`, which answers to `two`, which answers to nobody's inbox."""
    scheduler = VirtualScheduler()
    broker, found = MemoryBroker(scheduler), {}
    for name, key in (("one", topology.update_key("two", "one")), ("two", topology.update_key("three", "two"))):
        found[name] = ActorTelemetry()
        actor = Actor(
            name,
            Echo(key),
            broker.connect(name),
            scheduler,
            ALLIANCE,
            inbox=ALLIANCE.combiner(name),
            new_id=ids_of(name),
            observe=found[name],
        )
        actor.start()
    scheduler.settle()
    envelope = {"kind": "client_hello", "id": "root", "alliance": "a", "sender": "c1", "sent_at": 0.0}
    body = codec.encode(envelope, messages.ClientHello().model_dump())
    message = Outgoing(ALLIANCE.exchange("update"), topology.update_key("one", "c1"), body, "root")
    broker.connect("c1").publish(message)
    scheduler.settle()
    return found


def test_a_logged_event_names_the_chain_of_messages_that_led_to_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fedmq.runtime.telemetry"):
        found = telemetry_of_a_chain()

    reported = {record.__dict__["causes"][0]: record.__dict__ for record in caplog.records}
    assert reported["root"]["causes"] == ["root"]
    [second] = [fields for cause, fields in reported.items() if cause.startswith("one-")]
    assert second["causes"][1:] == ["root"]
    assert (second["session"], second["round"], second["client"], second["reason"]) == ("s1", 2, "c1", "because")
    assert found["two"].received == {"client_hello": 1}
    assert found["two"].published == {"client_hello": 1}
    assert found["two"].events == {"update.accepted": 1}


def test_a_line_is_one_json_object_with_its_extras() -> None:
    record = logging.LogRecord("fedmq", logging.WARNING, "", 0, "will try %s", ("again",), None)
    record.__dict__["reason"] = "line\nbreak"

    line = JsonLine({"role": "client"}).format(record)

    assert "\n" not in line
    fields = json.loads(line)
    at = fields.pop("at")
    assert at.endswith("+00:00")
    assert fields == {
        "level": "warning",
        "logger": "fedmq",
        "message": "will try again",
        "role": "client",
        "reason": "line\nbreak",
    }


def test_a_traceback_is_part_of_its_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        record = logging.LogRecord("fedmq", logging.ERROR, "", 0, "bug", (), (ValueError, error, error.__traceback__))

    assert "ValueError: broken" in json.loads(JsonLine({}).format(record))["traceback"]


def test_service_logs_go_to_stderr_alone(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_service_logs("warning", role="reducer", name="r1")
        logging.getLogger("fedmq").info("quiet")
        logging.getLogger("fedmq").warning("loud")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)

    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert json.loads(line)["message"] == "loud"
