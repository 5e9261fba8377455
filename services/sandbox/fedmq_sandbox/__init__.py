"""A whole alliance in this process, for a laptop, a notebook or a test. It needs no server.

from fedmq_sandbox import Sandbox

with Sandbox("examples/mnist/client", clients=5, rounds=5, state_dir="state") as sandbox:
    for round in sandbox.rounds():
        print(round.number, round.metrics)
    weights = sandbox.weights("best")
"""

from fedmq.errors import ConfigError, FedMQError, Gone, NotFound
from fedmq_sandbox.rounds import CommittedRound
from fedmq_sandbox.sandbox import Sandbox
from fedmq_sandbox.seed import Interrupted

__all__ = ["CommittedRound", "ConfigError", "FedMQError", "Gone", "Interrupted", "NotFound", "Sandbox"]
