"""The control page on a real alliance in this process, as a browser and as a person without scripts meet it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from fedmq_reducer.web.page import form
from fedmq_schemas.policy import Policy, Section
from support.servers.served import Served

from .alliance import SEED, await_end, wait_until_recorded

BROWSER = {"Accept": "text/html,application/xhtml+xml"}
SCRIPT = {**BROWSER, "X-Requested-With": "fetch"}


@pytest.fixture(scope="package")
def page(alliance: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=alliance.url, headers=BROWSER) as client:
        yield client


def _names(section: type[Section] = Policy, prefix: str = "") -> set[str]:
    names: set[str] = set()
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            names |= _names(kind, f"{name}.")
        else:
            names.add(f"{prefix}{name}")
    return names


# -- the form -------------------------------------------------------------------------------------------------------


def test_every_field_of_the_policy_is_in_the_form() -> None:
    fields = [field.name for field in form.fields()]
    assert set(fields) == _names() and len(fields) == len(set(fields))
    assert tuple(fields[: len(form.COMMON)]) == form.COMMON


def test_an_untouched_form_is_the_default_policy() -> None:
    untouched = {field.name: field.default for field in form.fields()}
    assert form.check(untouched).policy == Policy()


def test_values_reach_their_fields() -> None:
    given = {
        "rounds": "3",
        "timeout": "2.5",
        "train": "epochs = 2\nrates = [0.1, 0.2]",
        "clients.exclude": "a, b",
        "clients.where": 'site = "north"',
        "strategy.name": "fedadam",
        "retention.keep_updates": "2",
        "schedule": "lr = { 1 = 0.1, 20 = 0.01 }",
        "select.mode": "min",
        "validation": "separate",
    }
    policy = form.check(given).policy
    assert policy is not None
    assert (policy.rounds, policy.timeout, policy.train) == (3, 2.5, {"epochs": 2, "rates": [0.1, 0.2]})
    assert (policy.clients.exclude, policy.clients.where) == (("a", "b"), {"site": "north"})
    assert (policy.strategy.name, policy.retention.keep_updates, policy.select.mode) == ("fedadam", 2, "min")
    assert policy.validation == "separate"


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"rounds": "0"}, "rounds", "greater than or equal to 1"),
        ({"rounds": "many"}, "rounds", "valid integer"),
        ({"clients_required": "4", "clients_requested": "2"}, "clients_requested", "below clients_required"),
        ({"weighting": "capped:x"}, "weighting", "not known"),
        ({"train": "epochs"}, "train", "write lines such as"),
        ({"strategy.parameters": "lr = 2"}, "strategy.parameters", "no parameter 'lr'"),
        ({"strategy.name": "sgd"}, "strategy.parameters", "no server optimizer 'sgd'"),
        ({"clients.fraction": "1.5"}, "clients.fraction", "less than or equal to 1"),
        ({"package": "abc"}, "package", "pattern"),
        ({"schedule": "lr = { x = 1 }"}, "schedule", "round numbers"),
    ],
)
def test_a_fault_is_shown_at_its_field(given: dict[str, str], field: str, words: str) -> None:
    checked = form.check(given)
    assert checked.policy is None
    assert words in checked.faults[field]


def test_all_faults_are_shown_at_once() -> None:
    assert set(form.check({"rounds": "0", "train": "epochs", "timeout": "-1"}).faults) == {"rounds", "train", "timeout"}


# -- the page -------------------------------------------------------------------------------------------------------


def test_a_browser_gets_the_page_and_a_program_the_places(page: httpx.Client) -> None:
    assert "<title>sandbox · FedMQ</title>" in page.get("/").text
    assert page.get("/", headers={"Accept": "*/*"}).json()["start"] == "/start"


def test_a_browser_starts_nothing_by_looking(page: httpx.Client) -> None:
    before = page.get("/sessions").json()["items"]
    text = page.get("/start", params={"rounds": 2}).text
    assert re.search(r'<details id="starting"\s+open', text)
    assert page.get("/sessions").json()["items"] == before


def test_every_input_has_a_label(page: httpx.Client) -> None:
    text = page.get("/start").text
    ids = re.findall(r'<(?:input|select|textarea)(?![^>]*type="hidden")[^>]* id="([^"]+)"', text)
    labels = re.findall(r'<label for="([^"]+)"', text)
    assert len(ids) == len(form.fields()) + 1 and set(ids) <= set(labels)


def test_it_may_load_only_what_is_its_own(page: httpx.Client) -> None:
    answer = page.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    for name in ("page.css", "page.js", "icon.svg"):
        assert page.get(f"/page/static/{name}").status_code == 200
    assert page.get("/page/static/router.py").status_code == 404


def test_it_starts_a_session_without_scripts(page: httpx.Client) -> None:
    answer = page.post("/page/start", data={"rounds": "2", "name": "by hand", "seed": SEED, "session": "by-hand"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?started=by-hand")
    assert await_end(page, "by-hand")["policy"]["rounds"] == 2
    text = page.get("/").text
    assert "by hand" in text and "finished" in text


def test_without_scripts_faults_come_back_with_what_was_typed(page: httpx.Client) -> None:
    answer = page.post("/page/start", data={"rounds": "0", "name": "mine"})
    assert answer.status_code == 422
    assert 'id="e-rounds"' in answer.text and 'value="mine"' in answer.text and 'role="alert"' in answer.text


def test_a_script_gets_the_form_alone(page: httpx.Client) -> None:
    text = page.post("/page/start", data={"rounds": "0"}, headers=SCRIPT).text
    assert text.lstrip().startswith("<form") and 'aria-invalid="true"' in text


def test_an_unknown_seed_is_a_fault_at_the_seed(page: httpx.Client) -> None:
    text = page.post("/page/start", data={"seed": "nowhere"}, headers=SCRIPT).text
    assert 'id="e-seed"' in text and "there is no model" in text


def test_what_others_named_is_shown_as_text(page: httpx.Client) -> None:
    name = "<script>alert(1)</script>"
    page.post("/page/start", data={"rounds": "1", "name": name, "seed": SEED, "session": "marked"}, headers=SCRIPT)
    await_end(page, "marked")
    text = page.get("/").text
    assert name not in text and "&lt;script&gt;alert(1)" in text


def test_an_overlong_form_is_refused(page: httpx.Client) -> None:
    assert page.post("/page/start", data={"train": "x = '" + "y" * 200_000}).status_code == 422


@pytest.mark.parametrize("path", ["/page/start", "/page/sessions/by-hand/stop"])
def test_another_sites_page_may_change_nothing(page: httpx.Client, path: str) -> None:
    assert page.post(path, data={}, headers={"Origin": "http://evil.example"}).status_code == 403


def test_a_session_can_be_stopped(page: httpx.Client) -> None:
    data = {"rounds": "1000000", "seed": SEED, "session": "endless"}
    page.post("/page/start", data=data, headers=SCRIPT)
    wait_until_recorded(page, "endless")
    text = page.get("/").text
    assert 'action="/page/sessions/endless/stop"' in text
    assert page.post("/page/sessions/endless/stop", data={"when": "now"}, headers=SCRIPT).status_code == 204
    ended = await_end(page, "endless")
    assert (ended["state"], ended["reason"]) == ("stopped", "stopped by api")


def test_the_stream_sends_the_status_and_then_its_changes(page: httpx.Client) -> None:
    with page.stream("GET", "/page/stream", timeout=30) as answer:
        lines = (line for line in answer.iter_lines() if line.startswith("data: "))
        assert "Combiners" in next(lines)
        page.post(
            "/page/start", data={"rounds": "1", "name": "streamed", "seed": SEED, "session": "streamed"}, headers=SCRIPT
        )
        assert any("streamed" in line for line in lines)
