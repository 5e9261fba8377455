"""The families of metrics that a process serves, by the naming conventions of Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple


class Family(NamedTuple):
    """A family of metrics. The name of a counter ends in `_total`, and its unit, if it has one, precedes that."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


class Sample(NamedTuple):
    """One number of a family. `labels` has a value for each label of the family."""

    family: Family
    value: float
    labels: Mapping[str, str] = {}


INFO = Family("fedmq_info", "gauge", "Always 1. The labels describe the process.", ("role", "name", "version"))
UPTIME = Family("fedmq_uptime_seconds", "gauge", "Seconds since the process started.")
START_TIME = Family("process_start_time_seconds", "gauge", "When the process started, in UTC seconds since 1970.")
CPU = Family("process_cpu_seconds_total", "counter", "CPU seconds used, user and system.")
MEMORY = Family("process_resident_memory_bytes", "gauge", "Memory in RAM. Missing where the system has no /proc.")
RECEIVED = Family("fedmq_messages_received_total", "counter", "Messages received.", ("kind",))
PUBLISHED = Family("fedmq_messages_published_total", "counter", "Messages published.", ("kind",))
EVENTS = Family("fedmq_events_total", "counter", "Events published by this process.", ("event",))
RETRIES = Family(
    "fedmq_retries_total", "counter", "Failed attempts at work that is repeated until it succeeds.", ("effect", "store")
)
BROKER_CONNECTED = Family("fedmq_broker_connected", "gauge", "1 while the connection to the broker is open.")
BROKER_BLOCKED = Family(
    "fedmq_broker_blocked", "gauge", "1 while the broker accepts no messages, as it is low on disk or memory."
)
STORE_UP = Family(
    "fedmq_store_up",
    "gauge",
    "0 while a store (blob_store, records) has refused, or not answered, for 5 s or longer; else 1.",
    ("store",),
)
PROCESS = (
    INFO,
    UPTIME,
    START_TIME,
    CPU,
    MEMORY,
    RECEIVED,
    PUBLISHED,
    EVENTS,
    RETRIES,
    BROKER_CONNECTED,
    BROKER_BLOCKED,
    STORE_UP,
)
"""What every process serves."""

UNSETTLED = Family("fedmq_unsettled_messages", "gauge", "Messages that were received and are not acknowledged yet.")
