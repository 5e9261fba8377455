"""Nothing that the OpenAPI document allows, and nothing near it, is answered with a fault of the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import allow_header_conformance, positive_data_acceptance

from fedmq.blobs.memory import MemoryBlobs
from fedmq.records.sqlite import SqliteRecords
from fedmq_reducer.api.context import Context
from fedmq_reducer.api.feed import Feed
from fedmq_reducer.webapp import create_app
from servers.served import Served, served

EXAMPLES = 30


def _document() -> dict[str, object]:
    """As every server gives it at /openapi.json."""
    context = Context(
        alliance="a", records=SqliteRecords(":memory:"), blobs=MemoryBlobs(), publish=lambda *_: None, feed=Feed(),
        new_id=lambda: "id", scratch=Path(),
    )  # fmt: skip
    document: dict[str, object] = create_app(context).openapi()
    return document


schema = schemathesis.openapi.from_dict(_document()).exclude(path="/events/stream")


@pytest.fixture(scope="module")
def alliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("alliance"), clients=1, combiners=1) as running:
        yield running


# The trainers of the sandbox in this process seed Python's generator, which hypothesis takes for a strategy's doing.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_is_answered_with_a_servers_fault(alliance: Served, case: schemathesis.Case[Any]) -> None:
    response = case.call(base_url=alliance.url)
    assert response.status_code < 500, response.text
    # A policy has rules that JSON Schema can't say, and the router names one method of a path in `Allow`.
    case.validate_response(response, excluded_checks=[positive_data_acceptance, allow_header_conformance])
