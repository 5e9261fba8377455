"""A whole alliance in this process, for a laptop, a notebook or a test. It needs no server: see `Sandbox`."""

from fedmq.errors import ConfigError, FedMQError, Gone, NotFound
from fedmq_sandbox.rounds import CommittedRound
from fedmq_sandbox.sandbox import Sandbox
from fedmq_sandbox.seed import Interrupted

__all__ = ["CommittedRound", "ConfigError", "FedMQError", "Gone", "Interrupted", "NotFound", "Sandbox"]
