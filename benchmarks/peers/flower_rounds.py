"""Does the work of `../sandbox_rounds.py` in Flower's simulation. Needs `flwr[simulation]` in an environment of its own.

    /path/to/flower-venv/bin/python benchmarks/peers/flower_rounds.py CLIENTS ROUNDS

Prints a JSON list with the seconds of each round, from its configuration to the aggregated model. The first round also
starts the workers.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

os.environ.update(FLWR_TELEMETRY_ENABLED="0", RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

CLIENTS, ROUNDS = (int(word) for word in sys.argv[1:]) if len(sys.argv) == 3 else (10, 3)
seconds: list[float] = []
client_app, server_app = ClientApp(), ServerApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    step = np.float32(0.01 + 1e-5 * (context.node_id % 97))
    trained = [array + step for array in message.content["arrays"].to_numpy_ndarrays()]
    content = RecordDict({"arrays": ArrayRecord(trained), "metrics": MetricRecord({"num-examples": 10})})
    return Message(content=content, reply_to=message)


class TimedFedAvg(FedAvg):
    """FedAvg that records the start and end of each round."""

    began = 0.0

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Any:
        self.began = time.perf_counter()
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        aggregated = super().aggregate_train(server_round, list(replies))
        seconds.append(time.perf_counter() - self.began)
        return aggregated


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    random = np.random.default_rng(0)
    first = [random.standard_normal(250, np.float32) for _ in range(10)]
    strategy = TimedFedAvg(fraction_evaluate=0.0, min_train_nodes=CLIENTS, min_available_nodes=CLIENTS)
    result = strategy.start(grid=grid, initial_arrays=ArrayRecord(first), num_rounds=ROUNDS)
    moved = float(result.arrays.to_numpy_ndarrays()[0][0] - first[0][0])
    if not 0.0099 < moved / ROUNDS < 0.0111:
        raise SystemExit(f"the model moved by {moved}: this is not the work that was to be timed")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0}}
    run_simulation(server_app, client_app, num_supernodes=CLIENTS, backend_config=resources)
    print(json.dumps(seconds))
