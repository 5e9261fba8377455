"""Who may send a request: one decision for all ports."""

from __future__ import annotations

import base64

import pytest

from fedmq.web.access import Access

TOKEN = "a-token-of-the-admin"
SCRAPE = "a-token-of-prometheus"
OUTSIDE = Access(TOKEN, SCRAPE, is_local=False)
INSIDE = Access(TOKEN, SCRAPE, names=frozenset({"reducer"}))


def status(access: Access, path: str, headers: dict[str, str] | None = None, *, changes: bool = False) -> int:
    """Returns 200 if the request is let in."""
    given = {"host": "localhost:8090"} | {name.lower(): value for name, value in (headers or {}).items()}
    objection = access.objection(path, given.get, changes=changes)
    return 200 if objection is None else objection.status


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anybody:{token}".encode()).decode()}


def test_beyond_this_machine_a_read_without_a_token_is_refused() -> None:
    for path in ("/", "/sessions", "/events/stream", "/docs", "/openapi.json", "/metrics", "/health/", "/ready/x", ""):
        assert status(OUTSIDE, path) == 401, path
        assert status(OUTSIDE, path, bearer("wrong")) == 401, path
        assert status(OUTSIDE, path, bearer(TOKEN)) == status(OUTSIDE, path, basic(TOKEN)) == 200, path
    for path in ("/health", "/ready"):
        assert status(OUTSIDE, path) == 200
        assert status(OUTSIDE, path, changes=True) == 401


def test_a_port_without_a_token_is_shut_and_not_open() -> None:
    shut = Access(is_local=False)
    for headers in ({}, bearer(""), basic(""), bearer("None"), {"Authorization": "Bearer"}):
        assert status(shut, "/sessions", headers) == status(shut, "/metrics", headers) == 401


def test_the_token_of_metrics_opens_nothing_else() -> None:
    assert status(OUTSIDE, "/metrics", bearer(SCRAPE)) == 200
    assert status(OUTSIDE, "/sessions", bearer(SCRAPE)) == 401
    assert status(OUTSIDE, "/metrics", bearer(SCRAPE), changes=True) == 401


def test_on_this_machine_changes_alone_need_the_token() -> None:
    assert status(INSIDE, "/sessions") == status(INSIDE, "/metrics") == 200
    assert status(INSIDE, "/start", changes=True) == 401
    assert status(INSIDE, "/start", bearer(TOKEN), changes=True) == 200
    assert status(Access(), "/start", changes=True) == 200


@pytest.mark.parametrize("value", ["Bearer", "Basic", "Basic !", "Basic aGk=", "Digest x", "Bearer \xff", "Basic /w=="])
def test_what_is_no_token_is_refused_and_raises_nothing(value: str) -> None:
    assert status(OUTSIDE, "/", {"Authorization": value}) == 401


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200),
        ("LOCALHOST:8090", 200),
        ("127.0.0.1:8090", 200),
        ("[::1]:8090", 200),
        ("172.18.0.4:8080", 200),
        ("reducer:8090", 200),
        ("evil.example", 421),
        ("evil.example:8090", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1@evil.example", 421),
        ("[", 421),
        ("", 421),
    ],
)
def test_a_name_that_leads_here_by_rebinding_is_refused(host: str, expected: int) -> None:
    assert status(INSIDE, "/health", {"Host": host}) == expected


def test_in_a_container_the_names_of_services_are_this_machines() -> None:
    access = Access(in_container=True)
    assert status(access, "/metrics", {"Host": "standby:8090"}) == 200
    assert status(access, "/metrics", {"Host": "evil.example"}) == status(access, "/metrics", {"Host": ""}) == 421
    assert status(Access(), "/metrics", {"Host": "standby:8090"}) == 421


@pytest.mark.parametrize("access", [INSIDE, OUTSIDE])
@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_page_of_another_site_changes_nothing_with_the_browsers_password(
    access: Access, headers: dict[str, str]
) -> None:
    assert status(access, "/start", basic(TOKEN) | headers, changes=True) == 403


def test_a_refusal_names_what_is_missing_and_asks_browsers_for_it() -> None:
    objection = OUTSIDE.objection("/sessions", lambda _: None)
    assert objection is not None
    assert objection.reason == "this needs the admin token (FEDN_ADMIN_TOKEN): none was sent"
    assert objection.headers == {"WWW-Authenticate": 'Basic realm="FedMQ"'}
    scraped = OUTSIDE.objection("/metrics", {"authorization": "Bearer x"}.get)
    assert scraped is not None
    assert scraped.reason == "this needs the token of metrics (FEDN_HEALTH_TOKEN): the token sent is another one"


def test_no_print_shows_a_token() -> None:
    assert TOKEN not in repr(OUTSIDE) and SCRAPE not in repr(OUTSIDE)
