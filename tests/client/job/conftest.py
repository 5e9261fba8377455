"""A package whose trainer a test provides."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest

from client.job.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with patch.dict(sys.modules):
        yield Site(tmp_path, cast(dict[str, Any], sys.modules))
