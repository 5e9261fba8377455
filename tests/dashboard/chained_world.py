"""Two sessions in virtual time, of which the second starts from the first one's last model, and a third in the queue.

The alliance is that of the simulation: real cores and performers, whose records are real. Among its clients is one for
each outcome: `RAISES` fails in round 2, `ABSTAINS` has nothing to give in round 3, `GIVES_NAN` is rejected in round 3, and
`MISSES` is always too slow for the deadline.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from fedmq.records.base import Records
from fedmq.records.sqlite import SqliteRecords
from fedmq_schemas.policy import Policy
from simulation.alliance import Simulation
from simulation.plans import FaultPlan, SimulatedClient

ROUNDS, TIMEOUT = 4, 20.0
FIRST, SECOND, QUEUED = "session1", "session2", "session3"
MISSES, RAISES, ABSTAINS, GIVES_NAN = "client2", "client3", "client4", "client5"
SECONDS = {"client1": 1.0, MISSES: 25.0, RAISES: 2.0, ABSTAINS: 3.0, GIVES_NAN: 4.0, "client6": 5.0}
MOODS = {RAISES: {2: "fail"}, ABSTAINS: {3: "abstain"}, GIVES_NAN: {3: "nan"}}


@functools.cache
def chained_world() -> Records:
    """The records of the alliance while its second session runs; only read them."""
    clients = [SimulatedClient(name, 10, SECONDS[name], moods=dict(MOODS.get(name, {}))) for name in SECONDS]
    sessions = (
        Policy(name="first", rounds=ROUNDS),
        Policy(name="second", rounds=40, train={"proximal_mu": 0.1}),
        Policy(name="third", rounds=1),
    )
    common = {"clients_required": 2, "timeout": TIMEOUT, "random_seed": 1}
    plan = FaultPlan(
        seed=1,
        kind="wild",
        reducers=("reducer1",),
        combiners={"combiner1": 0.0, "combiner2": 0.0},
        clients=(*clients, SimulatedClient("evaluator", 10, 0.1, evaluator=True)),
        sessions=tuple(policy.model_copy(update=common) for policy in sessions),
        offload=False,
        recorder=True,
        chained=True,
    )
    simulation = Simulation(plan)
    world = simulation.world
    folder = Path(tempfile.mkdtemp(prefix="fedmq-chained-"))
    world.records.inner = SqliteRecords(folder / "records.db", clock=world.scheduler.wall)
    simulation.run(limit=130.0)
    return world.records.inner
