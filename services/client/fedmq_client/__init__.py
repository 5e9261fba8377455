"""A client: owns private data, trains and validates, and opens outbound connections only.

User code imports these names and nothing below them:

    from fedmq_client import Cancelled, Client, KerasTrainer, Task, Weights

Frameworks are imported when their name is first used, so a numpy trainer needs numpy alone. A notebook that drives an
alliance imports `Alliance`. `fedmq_client.torch` has helpers for trainers that are written by hand for a PyTorch module.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedmq.tensors import Weights
from fedmq_client.trainer import Cancelled, Client, Task, Trainer

# For type checkers, which do not see what __getattr__ finds.
if TYPE_CHECKING:
    from fedmq_client.frameworks.keras import KerasTrainer
    from fedmq_client.frameworks.sklearn import SklearnTrainer
    from fedmq_client.frameworks.torch import TorchTrainer
    from fedmq_sdk import Alliance

__all__ = [
    "Alliance",
    "Cancelled",
    "Client",
    "KerasTrainer",
    "SklearnTrainer",
    "Task",
    "TorchTrainer",
    "Trainer",
    "Weights",
]


def __getattr__(name: str) -> Any:
    if name == "torch":
        return import_module(f"{__name__}.torch")
    if name == "Alliance":
        from fedmq_sdk import Alliance

        return Alliance
    if not name.startswith("_"):
        from fedmq_client.frameworks import trainer_class

        if (found := trainer_class(name)) is not None:
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names for tab completion, also those that are imported when they are first used."""
    return sorted({*globals(), *__all__, "torch"})
