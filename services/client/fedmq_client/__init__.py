"""A client: owns private data, trains and validates, and dials out only.

User code imports these names and nothing below them:

    from fedmq_client import Cancelled, Client, KerasTrainer, Task, Weights

Frameworks are imported when their name is first used, so a numpy trainer needs numpy alone.
"""

from typing import TYPE_CHECKING, Any

from fedmq_client.trainer import Cancelled, Client, Task, Trainer, Weights

if TYPE_CHECKING:
    from fedmq_client.frameworks.keras import KerasTrainer

__all__ = ["Cancelled", "Client", "KerasTrainer", "Task", "Trainer", "Weights"]


def __getattr__(name: str) -> Any:
    if name == "KerasTrainer":
        from fedmq_client.frameworks.keras import KerasTrainer

        return KerasTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
