"""By default a site publishes of an error its class and the places in its own code, and nothing that quotes data."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from client.role.alone import AloneClient, absent_model
from fedmq.process.settings import ClientSettings
from fedmq_schemas.messages import Decline, Event, PlanKey, Update, Validation
from support.packages import write_package

SECRET = "anna-hiv-positive"
DEFAULT = ClientSettings.model_fields["error_detail"].default


def trainer(train: str = "return weights, 1, {}", validate: str = "return 1, {}", init: str = "...") -> str:
    """Returns a trainer. The patient's name is read from a file, so that no line of the code quotes it."""
    methods = {"__init__(self, client)": init, "train(self, weights, task)": train}
    methods["validate(self, weights, task)"] = validate
    lines = ["import pathlib", "patient = pathlib.Path('patient').read_text()", "class Trainer:"]
    for name, body in methods.items():
        lines += [f"    def {name}:", *(f"        {line}" for line in body.splitlines())]
    return "\n".join(lines) + "\n"


RAISES = "raise ValueError(patient)"
CHAINED = "try:\n    raise KeyError(patient)\nexcept KeyError as error:\n    raise ValueError(patient) from error"
IN_CONTEXT = "try:\n    raise KeyError(patient)\nexcept KeyError:\n    raise ValueError('other')"
NOTED = "error = ValueError('no')\nerror.add_note(patient)\nraise error"

FAILING = {
    "an exception": trainer(RAISES),
    "a chained exception": trainer(CHAINED),
    "an exception in an exception's handling": trainer(IN_CONTEXT),
    "a note of an exception": trainer(NOTED),
    "a group": trainer("raise ExceptionGroup(patient, [ValueError(patient)])"),
    "an exit": trainer("raise SystemExit(patient)"),
    "an import": f"{trainer()}raise ValueError(patient)\n",
    "a constructor": trainer(init=RAISES),
    "examples": trainer("return weights, patient, {}"),
    "names of weights": trainer("return {patient: 1, **weights}, 1, {}"),
    "metrics": trainer("return weights, 1, {'a': type('X', (), {'__float__': lambda self: 1 / 0})()}"),
    "a metric's value": trainer(
        "return weights, 1, {'loss': {1: type('X', (), {'__float__': lambda s: float(patient)})()}}"
    ),
    "the name of a state": trainer("task.state[patient] = object()\nreturn weights, 1, {}"),
    "a state's value": trainer(
        "class Bad:\n    def __array__(self, *_, **__): raise ValueError(patient)\n"
        "task.state['x'] = Bad()\nreturn weights, 1, {}"
    ),
    "a report": trainer("task.report(patient)\nreturn weights, 1, {}"),
    "a validation before training": trainer(validate=RAISES),
    "a chained validation": trainer(validate=CHAINED),
    "examples of a validation": trainer(validate="return patient, {}"),
}


@pytest.fixture(autouse=True)
def _own_modules() -> Iterator[None]:
    with patch.dict(sys.modules):
        yield


def client_of(folder: Path, text: str, **options: Any) -> AloneClient:
    write_package(folder, text)
    (folder / "patient").write_text(SECRET)
    client = AloneClient(folder, **options)
    client.attach()
    return client


@pytest.mark.parametrize("action", ["train", "validate"])
@pytest.mark.parametrize("row", FAILING)
@pytest.mark.parametrize("detail", [DEFAULT, "class"])
def test_no_message_of_the_client_holds_the_text_of_an_error(
    row: str, action: str, detail: Any, tmp_path: Path
) -> None:
    client = client_of(tmp_path, FAILING[row], detail=detail)
    client.request(action)
    assert client.bodies(Update, Decline, Validation)
    for message in client.published:
        assert SECRET.encode() not in message.body, message


def test_by_default_the_class_and_the_frames_of_the_users_code_are_published(tmp_path: Path) -> None:
    client = client_of(tmp_path, trainer(CHAINED), detail=DEFAULT)
    client.request()
    [decline] = client.bodies(Decline)
    assert decline.reason == "train raised ValueError"
    assert decline.traceback == "trainer.py:8 in train\nKeyError\nled to:\ntrainer.py:10 in train\nValueError"


def test_the_class_alone_is_published_without_places(tmp_path: Path) -> None:
    client = client_of(tmp_path, trainer(RAISES), detail="class")
    client.request()
    [decline] = client.bodies(Decline)
    assert (decline.reason, decline.traceback) == ("train raised ValueError", "")


def test_everything_is_published_where_the_site_says_so(tmp_path: Path) -> None:
    client = client_of(tmp_path, trainer(RAISES), detail="full")
    client.request()
    [decline] = client.bodies(Decline)
    assert decline.reason == f"train raised ValueError: {SECRET}"
    assert SECRET in decline.traceback and "trainer.py" in decline.traceback


def test_a_refusal_of_fedmq_keeps_its_remedy_and_leaves_the_value_out(tmp_path: Path) -> None:
    client = client_of(tmp_path, FAILING["examples"], detail=DEFAULT)
    client.request()
    [decline] = client.bodies(Decline)
    assert decline.reason == "train returned a str as examples: return an int of 0 or more"


def test_a_failed_validation_is_noted_without_its_text_on_the_update(tmp_path: Path) -> None:
    client = client_of(tmp_path, FAILING["a validation before training"], detail=DEFAULT)
    client.request()
    [validation] = client.bodies(Validation)
    [update] = client.bodies(Update)
    assert validation.reason == "validate raised ValueError"
    assert update.notes == ("validate raised ValueError",)


def test_a_model_that_can_not_be_fetched_is_reported_by_the_fault_of_the_store(tmp_path: Path) -> None:
    client = client_of(tmp_path, trainer(), detail=DEFAULT)
    client.request(model=absent_model())
    [decline] = client.bodies(Decline)
    assert decline.reason.startswith("can't fetch the model: this URL is not one to get models/absent")


def test_the_full_text_reaches_the_sites_own_log(tmp_path: Path) -> None:
    faults: list[tuple[str, PlanKey, str, str]] = []
    client = client_of(tmp_path, trainer(CHAINED), detail="class", on_fault=lambda *fault: faults.append(fault))
    client.request()
    [(name, plan, reason, traceback)] = faults
    assert (name, plan.session, plan.round) == ("update.failed", "s", 1)
    assert reason == f"train raised ValueError: {SECRET}"
    assert f"KeyError: '{SECRET}'" in traceback


def test_a_bug_of_fedmq_is_published_without_its_text(tmp_path: Path) -> None:
    client = client_of(tmp_path, trainer(), detail=DEFAULT)
    with patch.object(client.actor.core, "handle", side_effect=ValueError(SECRET)):
        client.request()
    client.run()
    errors = [event for event in client.bodies(Event) if event.name == "actor.error"]
    reasons = [event.data["reason"] for event in errors]
    assert reasons == ["handling Received: ValueError", "handling Broken: ValueError"]
    assert "actor.py:" in errors[0].data["traceback"]
    assert not [message for message in client.published if SECRET.encode() in message.body]
