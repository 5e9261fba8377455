"""Trainers for machine learning frameworks. Each module imports its framework; nothing else does.

A framework has a name, as in `fedmq init --framework NAME`, and a trainer class, as in `from fedmq_client import CLASS`.
Those of FedMQ are listed here. Any installed distribution may register others as entry points of the group
`fedmq.frameworks`: see docs/how-to/add-a-framework.md.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUP = "fedmq.frameworks"

BUILT_IN = (
    EntryPoint("keras", "fedmq_client.frameworks.keras:KerasTrainer [tensorflow]", GROUP),
    EntryPoint("sklearn", "fedmq_client.frameworks.sklearn:SklearnTrainer [sklearn]", GROUP),
    EntryPoint("torch", "fedmq_client.frameworks.torch:TorchTrainer [torch]", GROUP),
)
"""Each with the extra of `fedmq` that installs the framework."""


def registered() -> dict[str, EntryPoint]:
    """Returns all frameworks by name. A name of FedMQ's own cannot be taken by another distribution."""
    return {entry.name: entry for entry in (*entry_points(group=GROUP), *BUILT_IN)}


def trainer_class(name: str) -> Any:
    """Imports the framework whose trainer class has this name, and returns the class; None if there is no such class."""
    return next((entry.load() for entry in registered().values() if entry.attr == name), None)


def extra_of(module: str) -> str | None:
    """Returns the extra of `fedmq` that installs this top-level module; None if it belongs to no framework of FedMQ."""
    return next((entry.extras[0] for entry in BUILT_IN if module in (entry.name, *entry.extras)), None)
