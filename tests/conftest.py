"""Settings that hold for every test, and the tiers (`support/tiers.py`): `--fast` leaves out the tests that are `real`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from support import tiers

# The same examples in every run, and no verdict that depends on how busy the machine is.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

pytest_plugins = ["support.servers.fixtures"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fast", action="store_true", help="only tests that need no server, browser, framework or process"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves modules of real tests unread, as the import of a framework or of a browser's driver takes seconds."""
    return True if config.getoption("fast") and tiers.is_real_path(collection_path) else None


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skips the modules whose framework is not installed; PyTorch and TensorFlow may lack for a new Python."""
    return tiers.ModuleWithoutItsFramework.of(module_path, parent)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks the real tests, and deselects them with `--fast`."""
    fast: list[pytest.Item] = []
    real: list[pytest.Item] = []
    for item in items:
        (real if tiers.is_real(item) else fast).append(item)
    for item in real:
        item.add_marker("real")
    if config.getoption("fast") and real:
        config.hook.pytest_deselected(items=real)
        items[:] = fast
