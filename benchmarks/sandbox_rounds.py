"""What a round costs beside training: a 10 kB model, training that adds a constant, everything in one process.

    python benchmarks/sandbox_rounds.py [--rounds 10] [--clients 10 100 1000]

Milliseconds a round, from the rounds' own records: from a round's plan to its commit. The first round is left out.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

from fedmq_cli.sandbox import Sandbox, SandboxOptions
from fedmq_schemas import records
from fedmq_schemas.policy import Policy

TRAINER = """
import numpy as np

class Trainer:
    def __init__(self, client): ...
    def init(self):
        return {"0": np.zeros((50, 40), np.float32), "1": np.zeros(500, np.float32)}
    def train(self, weights, task):
        return {name: value + np.float32(0.01) for name, value in weights.items()}, 10, {}
"""

PEERS_MS = {10: 107.0, 100: 500.0, 1000: 8200.0}
"""Flower 1.42 simulation, medians of the same work, measured on the same kind of machine."""


def rounds_ms(package: Path, clients: int, rounds: int) -> list[float]:
    """Milliseconds of each round but the first."""
    options = SandboxOptions(package, clients=clients, workers=0, evaluator=False)
    policy = Policy(rounds=rounds, random_seed=1, validation="none")
    with Sandbox(options, policy) as sandbox:
        session = sandbox.train()
        if session["state"] != "finished":
            raise SystemExit(f"the session {session['state']}: {session['reason']}")
        committed = sandbox.records.find(records.ROUNDS, order="round")
    return [1e3 * float(document["seconds"]) for document in committed[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="rounds of each session, at least 2")
    parser.add_argument("--clients", type=int, nargs="+", default=list(PEERS_MS), help="numbers of clients")
    options = parser.parse_args()
    print("ms a round, 10 kB model, training without cost, two combiners")
    print(f"{'clients':>8} {'median':>8} {'least':>8} {'most':>8} {'Flower':>8}")
    with tempfile.TemporaryDirectory() as name:
        package = Path(name)
        (package / "fedn.yaml").write_text("trainer: trainer.py:Trainer\n")
        (package / "trainer.py").write_text(TRAINER)
        for clients in options.clients:
            took = rounds_ms(package, clients, options.rounds)
            peer = f"{PEERS_MS[clients]:8.0f}" if clients in PEERS_MS else f"{'-':>8}"
            print(f"{clients:8} {median(took):8.1f} {min(took):8.1f} {max(took):8.1f} {peer}", flush=True)
    print("Flower: flwr 1.42 simulation, measured on the same kind of machine, not in this run")


if __name__ == "__main__":
    main()
