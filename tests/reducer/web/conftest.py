"""One alliance in this process for all tests of the web API and the control page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.servers.served import Served, served

from .alliance import SEED, await_end


@pytest.fixture(scope="package")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("alliance")) as running:
        yield running


@pytest.fixture(scope="package")
def api(alliance: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=alliance.url) as client:
        yield client


@pytest.fixture(scope="package")
def trained(api: httpx.Client) -> dict[str, Any]:
    """A finished session of three rounds."""
    answer = api.post("/start", json={"rounds": 3, "seed": SEED, "random_seed": 5}, params={"id": "trained"})
    assert answer.status_code == 202
    return await_end(api, "trained")
