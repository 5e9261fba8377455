"""A client: owns private data, trains and validates, and dials out only.

User code imports these names and nothing below them:

    from fedmq_client import Cancelled, Client, KerasTrainer, Task, Weights

Frameworks are imported when their name is first used, so a numpy trainer needs numpy alone. A notebook that drives an
alliance imports `Alliance`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedmq_client.trainer import Cancelled, Client, Task, Trainer, Weights

if TYPE_CHECKING:
    from fedmq_client.alliance import Alliance
    from fedmq_client.frameworks.keras import KerasTrainer
    from fedmq_client.frameworks.sklearn import SklearnTrainer
    from fedmq_client.frameworks.torch import TorchTrainer

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

_LATER = {
    "Alliance": "alliance",
    "KerasTrainer": "frameworks.keras",
    "SklearnTrainer": "frameworks.sklearn",
    "TorchTrainer": "frameworks.torch",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"fedmq_client.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
