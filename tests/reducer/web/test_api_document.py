"""Nothing that the OpenAPI document allows, and nothing near it, is answered with a fault of the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import allow_header_conformance, positive_data_acceptance

from fedmq.blobs.memory import MemoryBlobs
from fedmq.records.sqlite import SqliteRecords
from fedmq.tensors import tensorblob
from fedmq_reducer.web.api.context import ApiContext
from fedmq_reducer.web.api.feed import EventStream
from fedmq_reducer.web.app import create_app
from fedmq_schemas.policy import Policy
from support.servers.served import Served, served
from support.waiting import until

from .alliance import SEED, await_end
from .drawn import near

EXAMPLES = 30
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""No verdict that depends on how busy the machine is."""

# The trainers of the sandbox in this process seed Python's generator, which hypothesis takes for a strategy's doing.
sandbox_seeds = pytest.mark.filterwarnings(
    "ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning"
)


def _document() -> dict[str, object]:
    """As every server gives it at /openapi.json."""
    context = ApiContext(
        alliance="a",
        records=SqliteRecords(":memory:"),
        blobs=MemoryBlobs(),
        publish=lambda *_: None,
        feed=EventStream(),
        new_id=lambda: "id",
        scratch=Path(),
    )
    document: dict[str, object] = create_app(context).openapi()
    return document


schema = schemathesis.openapi.from_dict(_document()).exclude(path="/events/stream")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("alliance"), clients=1, combiners=1) as running:
        yield running


@sandbox_seeds
@schema.parametrize()
@settings(UNTIMED, max_examples=EXAMPLES)
def test_no_request_is_answered_with_a_servers_fault(small: Served, case: schemathesis.Case[Any]) -> None:
    response = case.call(base_url=small.url)
    assert response.status_code < 500, response.text
    # A policy has rules that JSON Schema can't say, and the router names one method of a path in `Allow`.
    case.validate_response(response, excluded_checks=[positive_data_acceptance, allow_header_conformance])


@sandbox_seeds
def test_any_policy_is_taken_or_refused_and_the_alliance_outlives_it(tmp_path: Path) -> None:
    statuses: Counter[int] = Counter()
    started: list[str] = []
    with served(tmp_path / "state", clients=1, combiners=1) as own, httpx.Client(base_url=own.url) as api:

        @settings(UNTIMED, max_examples=200)
        @given(policy=near(Policy.model_json_schema()))
        def start(policy: dict[str, Any]) -> None:
            answer = api.post("/start", json=policy)
            statuses[answer.status_code] += 1
            assert answer.status_code in (202, 404, 422), answer.text
            if answer.status_code == 202:
                started.append(answer.json()["session"])

        start()
        assert statuses[202] >= 20
        assert statuses[422] >= 20
        last = api.post("/start", json={"rounds": 1, "seed": SEED}).json()["session"]
        for session in started:
            until(partial(_stopped, api, session), f"session {session} can be stopped")
        assert await_end(api, last)["state"] == "finished"


@given(place=st.integers(0, 200), value=st.integers(0, 255))
@settings(UNTIMED, max_examples=100)
def test_a_seed_with_any_byte_changed_is_taken_or_refused(small: Served, place: int, value: int) -> None:
    blob = bytearray(tensorblob.encode({"a": np.ones(4), "b": np.ones((2, 2), np.float32)}))
    blob[place % len(blob)] = value
    answer = httpx.post(f"{small.url}/models", content=bytes(blob))
    assert answer.status_code in (200, 201, 422), answer.text


def _stopped(api: httpx.Client, session: str) -> bool:
    """False as long as the reducer has not recorded the session."""
    return api.post(f"/sessions/{session}/stop").status_code == 202
