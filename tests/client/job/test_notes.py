"""What fails beside the weights costs only itself: the update counts, and the result has a note that says why."""

import datetime
from functools import reduce
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from client.job.site import MODEL, Site, same
from fedmq import tensors
from fedmq_client import Cancelled, Task, Weights
from fedmq_client.job.job import Validated
from fedmq_client.job.notes import NoteCollector
from fedmq_schemas.messages import Metrics
from fedmq_schemas.messages.base import Notes

DEEP: list[Any] = reduce(lambda inner, _: [inner], range(200), [])
LIMIT = "all metrics together may take 40,000 bytes"


@pytest.mark.parametrize(
    ("metrics", "kept", "note"),
    [
        ({"when": datetime.datetime(2026, 1, 1)}, {}, "metric 'when' is not kept: it is a datetime; send numbers"),
        ({"classes": {1, 2}}, {}, "metric 'classes' is not kept: it is a set; send numbers, strings or lists"),
        ({"raw": b"x"}, {}, "metric 'raw' is not kept: it is a bytes; send numbers, strings or lists"),
        ({"x": DEEP}, {}, "metric 'x' is not kept: it is nested more than 20 deep"),
        ({"x": 2**70}, {}, "metric 'x' is not kept: 64 bits can't hold it"),
        ({"": 1}, {}, "metric '' is not kept: a name has 0 characters; use 1 to 128"),
        ({"x": {"y" * 129: 1}}, {}, "metric 'x' is not kept: a name has 129 characters; use 1 to 128"),
        ({"huge": 1.7e308}, {"huge": None}, "metric 'huge' of train is 1.7e+308 and is in no mean"),
        (
            {"confusion": np.zeros((300, 300), int)},
            {},
            f"metric 'confusion' (90,000 values) is not kept: send numbers ({LIMIT})",
        ),
        ({"log": "x" * 50_000}, {}, f"metric 'log' (50,000 characters) is not kept: send numbers ({LIMIT})"),
        ({"small": [0] * 9, "rows": {"a": [[1] * 200] * 200}}, {"small": [0] * 9}, "metric 'rows' (40,000 values)"),
    ],
)
def test_a_metric_that_can_not_be_kept_costs_neither_the_update_nor_the_other_metrics(
    site: Site, metrics: dict[str, Any], kept: dict[str, Any], note: str
) -> None:
    site.serve(train=lambda weights, task: (weights, 3, {"loss": 0.5, **metrics}), validate=lambda *_: (3, metrics))
    result = site.run()
    assert (result.outcome, result.examples, result.metrics) == ("done", 3, {"loss": 0.5, **kept})
    assert len(result.notes) == 1 and note in result.notes[0]
    validated = site.run(kind="validate")
    notes = tuple(text.replace(" of train", " of validate") for text in result.notes)
    assert (validated.outcome, validated.metrics, validated.notes) == ("done", kept, notes)


def test_a_metric_without_a_finite_value_is_sent_and_noted_once(site: Site) -> None:
    metrics = {"mse": np.float32("nan"), "loss": 0.5, "mae": float("inf"), "words": "nan", "list": [float("nan")]}

    def train(weights: Weights, task: Task) -> Any:
        task.report(0.5, mae=float("inf"), progress=float("nan"))
        return weights, 3, metrics

    site.serve(train=train, validate=lambda *_: (3, metrics))
    result = site.run()
    assert result.notes == (
        "metric 'mse' of train is nan and is in no mean",
        "metric 'mae' of train is inf and is in no mean",
    )
    assert result.metrics == {"mse": None, "loss": 0.5, "mae": None, "words": "nan", "list": [None]}, "it is recorded"
    assert site.reported[0] == ("j", 0.5, {"mae": None, "progress": None}, "")
    assert site.run(kind="validate").notes == (
        "metric 'mse' of validate is nan and is in no mean",
        "metric 'mae' of validate is inf and is in no mean",
    )


def test_the_largest_of_many_metrics_are_left_out_until_the_rest_fits(site: Site) -> None:
    metrics = {f"m{size}": [0] * size for size in (30_000, 10, 20_000, 15_000)}
    site.serve(train=lambda weights, task: (weights, 1, metrics))
    result = site.run()
    assert sorted(result.metrics) == ["m10", "m15000", "m20000"]
    assert [note.partition(" is not")[0] for note in result.notes] == ["metric 'm30000' (30,000 values)"]


def test_metrics_that_are_no_map_cost_no_update(site: Site) -> None:
    site.serve(train=lambda weights, task: (weights, 1, [0.5]))
    result = site.run()
    assert (result.outcome, result.metrics) == ("done", {})
    assert result.notes == ("train returned a list as metrics: return a dict of numbers",)


def test_text_that_utf_8_can_not_hold_is_kept_with_a_mark(site: Site) -> None:
    site.serve(train=lambda weights, task: (weights, 1, {"word\ud800": "\udcff", "a\0b": "\0"}))
    assert site.run().metrics == {"word?": "?", "a␀b": "␀"}


def test_of_more_metrics_than_a_message_can_hold_the_first_ones_are_kept(site: Site) -> None:
    site.serve(train=lambda weights, task: (weights, 1, {f"m{number}": number for number in range(502)}))
    result = site.run()
    assert list(result.metrics) == [f"m{number}" for number in range(500)]
    assert result.notes == ("2 metrics or more are not kept: at most 500 can be sent",)


def test_what_a_client_sends_of_any_metrics_is_within_the_limits_of_a_message(site: Site) -> None:
    """The body of an update raised in the client's core for these, and its task was not answered."""
    odd = {"nan": float("nan"), "deep": DEEP, "huge": [1e300], "\0": {"\0": "\0"}, "": 1, "x" * 300: 1, "int": 2**63}
    site.serve(train=lambda weights, task: (weights, 1, odd), validate=lambda *_: (1, odd))
    for result in (site.run(), site.run(kind="validate")):
        assert TypeAdapter(Metrics).validate_python(result.metrics) == {"nan": None, "huge": [None], "␀": {"␀": "␀"}}
        assert TypeAdapter(Notes).validate_python(result.notes)


def test_a_validation_that_fails_is_reported_with_its_traceback_and_training_goes_on(site: Site) -> None:
    def validate(weights: Weights, task: Task) -> Any:
        raise ValueError("no labels here")

    site.serve(train=same, validate=validate)
    result = site.run(validate=True)
    validated = site.reported[0]
    assert isinstance(validated, Validated)
    assert (validated.examples, validated.metrics) == (None, {})
    assert validated.reason == "validate raised ValueError: no labels here"
    assert "in validate" in validated.traceback
    assert (result.outcome, result.notes) == ("done", ("validate raised ValueError: no labels here",))
    assert len(site.made) == 2, "an exception may leave a trainer incomplete"


def test_what_a_failed_validation_changed_of_the_process_is_restored_before_the_training(site: Site) -> None:
    def validate(weights: Weights, task: Task) -> Any:
        np.seterr(over="raise")
        raise ValueError

    site.serve(train=lambda weights, task: (weights, 1, {"over": np.geterr()["over"]}), validate=validate)
    assert site.run(validate=True).metrics == {"over": np.geterr()["over"]} == {"over": "warn"}


def test_a_wrong_answer_of_validate_costs_no_training(site: Site) -> None:
    site.serve(train=same, validate=lambda weights, task: {"accuracy": 1.0})
    result = site.run(validate=True)
    reason = "validate returned a dict: return examples, metrics or None"
    assert (result.outcome, result.notes, site.reported[0].reason) == ("done", (reason,), reason)
    assert len(site.made) == 1


def test_notes_of_a_validation_are_reported_with_it_and_not_again(site: Site) -> None:
    site.serve(train=same, validate=lambda *_: (1, {"accuracy": 0.5, "classes": {1}}))
    result = site.run(validate=True)
    assert site.reported[0].metrics == {"accuracy": 0.5}
    assert (len(site.reported[0].notes), result.notes) == (1, ())


def test_a_task_that_is_cancelled_while_it_validates_is_not_trained(site: Site) -> None:
    def validate(weights: Weights, task: Task) -> Any:
        raise Cancelled

    site.serve(train=same, validate=validate)
    assert site.run(validate=True).outcome == "cancelled"


@pytest.mark.parametrize("fraction", [None, "half", float("nan"), np.zeros(2), 10**400])
def test_a_report_without_a_fraction_is_noted_and_not_sent(site: Site, fraction: Any) -> None:
    def train(weights: Weights, task: Task) -> Any:
        task.report(fraction, loss=1.0)
        task.report(0.5, loss=1.0)
        return weights, 1, {}

    site.serve(train=train)
    result = site.run()
    assert site.reported[:-1] == [("j", 0.5, {"loss": 1.0}, "")]
    assert result.outcome == "done" and result.notes[0].startswith("task.report got ")
    assert result.notes[0].endswith("as its fraction: give a number from 0 to 1")


def test_a_bad_metric_of_a_report_is_noted_and_the_rest_sent(site: Site) -> None:
    def train(weights: Weights, task: Task) -> Any:
        task.report(0.5, loss=1.0, model=object())
        return weights, 1, {}

    site.serve(train=train)
    result = site.run()
    assert site.reported[0] == ("j", 0.5, {"loss": 1.0}, "")
    assert result.notes == ("metric 'model' is not kept: it is an object; send numbers, strings or lists",)


def test_state_that_can_not_be_kept_is_noted_and_the_rest_kept(site: Site) -> None:
    def train(weights: Weights, task: Task) -> Any:
        odd: dict[Any, Any] = {"x": object(), "__metadata__": MODEL["t0"], 5: MODEL["t0"], "text": np.array("a")}
        task.state |= odd | {"ragged": [[1], [1, 2]], "kept": np.ones(2), "o": np.array([{}, None])}
        return weights, 1, {}

    site.serve(train=train)
    result = site.run()
    assert result.outcome == "done" and isinstance(result.state, bytes)
    assert list(tensors.decode(result.state)[0]) == ["kept"]
    assert len(result.notes) == 6
    assert (
        result.notes[0] == "task.state['x'] is an object and is not kept: use a numpy array of numbers, such as float32"
    )
    assert result.notes[-1].startswith("task.state['o'] is an array of objects and is not kept: use a numpy array")
    assert "task.state['text'] is an array of <U1 and" in result.notes[3]


def test_state_that_is_no_map_is_noted(site: Site) -> None:
    def train(weights: Weights, task: Task) -> Any:
        task.state = None  # type: ignore[assignment]
        return weights, 1, {}

    site.serve(train=train)
    assert site.run().notes == ("task.state is None and is not kept: use a dict of numpy arrays",)


def test_notes_are_few_short_and_different() -> None:
    notes = NoteCollector()
    for number in range(12):
        notes.add(f"note {number}\n{'x' * 400}")
        notes.add(f"note {number} {'x' * 400}")
    texts = notes.take().texts
    assert len(texts) == 10 and texts[-1] == "and 3 notes more"
    assert {len(text) for text in texts[:-1]} == {300} and notes.take().texts == ()
    notes.add("no \0 such \ud800 file")
    assert notes.take().texts == ("no ␀ such ? file",)
