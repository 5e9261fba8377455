"""Settings that hold for every test, and the tiers (`support/tiers.py`): `--fast` leaves out the tests that are `real`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from fedmq.records.sqlite import SqliteRecords
from support import tiers

# The same examples in every run, and no verdict that depends on how busy the machine is.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

pytest_plugins = ["support.servers.fixtures"]


@pytest.fixture(autouse=True)
def _close_records_in_memory() -> Iterator[None]:
    """Closes the records in memory that a test leaves open: from Python 3.13 on, collecting an open database warns.

    Records in a file are closed by those who open them, as the warning is about a fault there.
    """
    opened: list[SqliteRecords] = []
    init = SqliteRecords.__init__

    def opening(records: SqliteRecords, path: Path | str, *args: Any, **options: Any) -> None:
        init(records, path, *args, **options)
        if path == ":memory:":
            opened.append(records)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqliteRecords, "__init__", opening)
        yield
    for records in opened:
        records.close()


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
