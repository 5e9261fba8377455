"""A client: owns private data, trains and validates, and dials out only.

User code imports these names and nothing below them:

    from fedmq_client import Cancelled, Client, KerasTrainer, Task, Weights

Frameworks are imported when their name is first used, so a numpy trainer needs numpy alone. A notebook that drives an
alliance imports `Alliance`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedmq.tensors import Weights
from fedmq_client.trainer import Cancelled, Client, Task, Trainer

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

_LATER = {
    "Alliance": "fedmq_sdk",
    "KerasTrainer": "fedmq_client.frameworks.keras",
    "SklearnTrainer": "fedmq_client.frameworks.sklearn",
    "TorchTrainer": "fedmq_client.frameworks.torch",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
