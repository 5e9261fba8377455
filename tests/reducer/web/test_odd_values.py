"""Values that no store and no number can hold: each is refused with a reason that names it."""

from __future__ import annotations

import httpx
import pytest

from support.servers.served import Served


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/start?rounds=" + "9" * 5_000, "rounds"),
        ("/start?rounds=0x" + "f" * 5_000, "rounds"),
        ("/start?rounds=" + "[" * 2_000, "rounds"),
        ("/start?train." + "a." * 2_000 + "a=1", "train"),
        ("/start?seed=a%00b", "seed"),
        ("/start?rounds=9223372036854775808", "rounds"),
        ("/start?timeout=nan", "timeout"),
    ],
)
def test_a_query_with_an_odd_value_is_refused_and_named(alliance: Served, path: str, named: str) -> None:
    answer = httpx.post(f"{alliance.url}{path}")
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(("the policy can't be used", named)) and named in answer.json()["error"]
    assert "pattern" not in answer.text and len(answer.text) < 500


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (r'{"seed": "a\u0000b"}', "seed"),
        (r'{"seed": "a\ud800b"}', "seed"),
        (r'{"train": {"note": "a\u0000b"}}', "train.note"),
        (r'{"train": {"note": "a\ud800b"}}', "train.note"),
        (r'{"train": {"a\u0000b": "x"}}', "train"),
        (r'{"train": {"a\ud800b": "x"}}', "train"),
        ('{"train": {"steps": 9223372036854775808}}', "train.steps"),
        ('{"train": {"steps": NaN}}', "train.steps"),
        ('{"rounds": 9223372036854775808}', "rounds"),
        ('{"timeout": NaN}', "timeout"),
    ],
)
def test_a_body_with_an_odd_value_is_refused_and_named(alliance: Served, body: str, named: str) -> None:
    answer = httpx.post(f"{alliance.url}/start", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert named in answer.json()["error"]
    assert "pattern" not in answer.text and "unicode" not in answer.text


def test_a_body_with_a_number_that_python_refuses_to_read_is_refused(alliance: Served) -> None:
    body = '{"timeout": ' + "9" * 5_000 + "}"
    answer = httpx.post(f"{alliance.url}/start", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and "body" in answer.json()["error"]


@pytest.mark.parametrize("after", ["9" * 30, "9223372036854775808", "-9223372036854775809", "1e999"])
def test_a_cursor_that_no_store_can_compare_is_refused(alliance: Served, after: str) -> None:
    answer = httpx.get(f"{alliance.url}/events", params={"after": after})
    assert answer.status_code == 422
    assert answer.json() == {"error": f"after: '{after}' is not the `next` of a page"}


def test_an_origin_that_is_no_address_is_another_site(alliance: Served) -> None:
    answer = httpx.post(f"{alliance.url}/start", json={}, headers={"Origin": "http://[::1"})
    assert answer.status_code == 403 and "another site" in answer.json()["error"]
