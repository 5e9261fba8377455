"""An alliance from Python, over the REST API of its reducers, or a sandbox's run, read from its folder.

    from fedmq_sdk import Alliance

    session = Alliance("http://localhost:8090").start(rounds=10, train={"epochs": 2})
    session.wait()
    session.metrics().to_pandas()
    Alliance(state_dir="fedmq-runs/20260131-120000").weights("best")

Every error is a `FedMQError`: `NotFound` (no such thing), `Gone` (a model that was deleted), `ConfigError` (a wrong value,
with what to change), `Refused` (the answer is no), `InvalidUpdate` (a hash differs) or `Transient` (no answer: try again).
"""

from fedmq.errors import ConfigError, FedMQError, Gone, InvalidUpdate, NotFound, Refused, Transient
from fedmq_sdk.alliance import Alliance
from fedmq_sdk.session_handle import SessionHandle

__all__ = [
    "Alliance",
    "ConfigError",
    "FedMQError",
    "Gone",
    "InvalidUpdate",
    "NotFound",
    "Refused",
    "SessionHandle",
    "Transient",
]
