"""Writes an untrained model, to start a session from.

    python examples/mnist/init_model.py MODEL.safetensors [RANDOM_SEED]

`fedmq sandbox` makes one by itself. This script makes a seed for a running alliance.
"""

import sys
from pathlib import Path

from fedmq import tensors
from fedmq_client import Client, KerasTrainer
from fedmq_client.job.load_trainer import build
from fedmq_client.packages.package import load

PACKAGE = Path(__file__).parent / "client"


def write(path: Path, random_seed: int) -> None:
    """Writes weights drawn from `random_seed`, with their roles."""
    client = Client(name="init", random_seed=random_seed)
    trainer = build(load(PACKAGE), client)
    assert isinstance(trainer, KerasTrainer)
    path.write_bytes(tensors.encode(trainer.init(), {"roles": trainer.roles()}))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    write(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 0)
