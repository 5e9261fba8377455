"""Pages on real records of two sessions with the same clients, of which the second starts from the first one's model."""

from __future__ import annotations

import pytest

from dashboard.chained_world import (
    ABSTAINS,
    FIRST,
    MISSES,
    QUEUED,
    RAISES,
    ROUNDS,
    SECOND,
    SECONDS,
    TIMEOUT,
    chained_world,
)
from dashboard.events import event
from dashboard.rendering import show
from dashboard.test_pages import unpacked
from fedmq.records.base import Document
from fedmq.records.sqlite import SqliteRecords
from fedmq_schemas import records as tables


def committed(session: str) -> int:
    return chained_world().count(tables.ROUNDS, {"session": session})


# -- the first model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", ["round", "hours", "bytes"])
def test_curves_of_a_chained_session_begin_at_its_own_start(axis: str) -> None:
    curves = show(chained_world(), "/", f"?session={SECOND}&x={axis}").graphs["curves"]
    [x] = [trace["x"] for trace in curves["data"] if trace.get("name") == "test set"]
    assert x[0] == 0 and x == sorted(x) and len(x) >= committed(SECOND)


def test_boxes_of_a_chained_session_begin_at_its_own_start() -> None:
    box, mean = show(chained_world(), "/box", f"?session={SECOND}").graphs["box"]["data"]
    assert box["x"] == mean["x"] == list(range(len(box["x"])))
    assert len(box["x"]) >= committed(SECOND)


@pytest.mark.parametrize("axis", ["round", "hours", "bytes"])
def test_compared_sessions_begin_at_the_same_place(axis: str) -> None:
    lines = show(chained_world(), "/sessions", f"?compare={FIRST},{SECOND}&x={axis}").graphs["compare"]["data"]
    assert [trace["name"] for trace in lines] == ["first", "second"]
    assert all(trace["x"][0] == 0 and trace["x"] == sorted(trace["x"]) for trace in lines)
    assert lines[0]["y"][-1] == lines[1]["y"][0]  # the same model


def test_what_differs_names_the_first_models_and_their_scores_first() -> None:
    shown = show(chained_world(), "/sessions", f"?compare={FIRST},{SECOND}")
    last = chained_world().find(tables.MODELS, {"session": FIRST}, order="round", descending=True, limit=1)[0]["model"]
    assert shown.rows("differing") == [
        ["seed", "seed (accuracy 0.1562)", f"{last} (accuracy 0.7930)"],
        ["rounds", "4", "40"],
        ["train.proximal_mu", "–", "0.1"],
    ]
    assert "They start from different models" in shown.text


def test_the_first_model_of_a_session_in_the_queue_is_not_chosen_yet() -> None:
    rows = show(chained_world(), "/sessions", f"?compare={FIRST},{QUEUED}").rows("differing")
    assert rows[0] == ["seed", "seed (accuracy 0.1562)", "the newest model at its start (queued)"]


# -- the queue ------------------------------------------------------------------------------------------------------


def test_the_list_tells_the_queue_from_the_session_and_done_rounds_from_wanted_ones() -> None:
    rows = {row[0]: row for row in show(chained_world(), "/sessions").rows("sessions")}
    assert [rows["first"][index] for index in (2, 5, 6)] == ["4 of 4", "0 ms", "85.0 s"]
    assert [rows["second"][index] for index in (2, 5, 6)] == [f"{committed(SECOND)} of 40", "84.0 s", "–"]
    assert [rows["third"][index] for index in (2, 5, 6)] == ["0 of 1", "–", "–"]


def test_time_counts_from_the_start_of_a_session_that_was_queued() -> None:
    curves = show(chained_world(), "/", f"?session={SECOND}&x=hours").graphs["curves"]
    [x] = [trace["x"] for trace in curves["data"] if trace.get("name") == "test set"]
    assert curves["layout"]["xaxis"]["title"]["text"] == "seconds since the start"
    assert x[:2] == [0.0, pytest.approx(TIMEOUT)]  # the first round waits for the deadline


# -- a round's time -------------------------------------------------------------------------------------------------


def test_the_client_that_missed_the_deadline_is_drawn_and_named() -> None:
    shown = show(chained_world(), "/timeline", f"?session={FIRST}&round=1")
    named = {trace["name"]: trace for trace in shown.graphs["waterfall"]["data"]}
    missed = named["no answer by the deadline"]
    drawn = dict(zip(missed["y"], unpacked(missed["x"]).tolist(), strict=True))
    assert {name: seconds for name, seconds in drawn.items() if seconds} == {MISSES: TIMEOUT}
    assert (
        f"{MISSES} gave no answer by the deadline of 20.0 s. client6 was the last to answer, after 5.0 s" in shown.text
    )
    assert "6 clients" in shown.text
    marks = [shape["label"]["text"] for shape in shown.graphs["waterfall"]["layout"]["shapes"]]
    assert sorted(marks) == ["committed", "deadline"]


def test_the_client_that_missed_all_deadlines_is_the_one_that_the_rounds_waited_for() -> None:
    shown = show(chained_world(), "/timeline", f"?session={FIRST}")
    rows = shown.rows("delays")
    assert rows[0] == [MISSES, "65.8 s", f"{ROUNDS} of {ROUNDS}"]
    assert [row[2] for row in rows[1:]] == [f"0 of {ROUNDS}"] * 5
    waited = next(t for t in shown.graphs["rounds"]["data"] if t["name"] == "waited for the last client")
    assert waited["y"] == [TIMEOUT] * ROUNDS


@pytest.mark.parametrize(("client", "number"), [(RAISES, 2), (ABSTAINS, 3)])
def test_nothing_is_known_of_a_task_before_it_failed(client: str, number: int) -> None:
    figure = show(chained_world(), "/timeline", f"?session={FIRST}&round={number}").graphs["waterfall"]
    unknown = next(trace for trace in figure["data"] if trace["name"] == "unknown until it failed or abstained")
    drawn = dict(zip(unknown["y"], unpacked(unknown["x"]).tolist(), strict=True))
    assert {name: seconds for name, seconds in drawn.items() if seconds} == {client: SECONDS[client]}


# -- a client -------------------------------------------------------------------------------------------------------


def test_a_clients_card_shows_its_tasks_of_this_session_only() -> None:
    shown = show(chained_world(), "/clients", f"?session={FIRST}&client={RAISES}")
    assert f"{RAISES} in first · finished" in shown.text
    assert "4 tasks in this session: 3 accepted, 1 failed." in shown.text
    heads = [element for element in shown.elements() if getattr(element, "className", None) == "event"]
    assert len(heads) == ROUNDS


def test_a_clients_card_shows_a_validation_only_if_something_is_to_be_said_of_it() -> None:
    records = SqliteRecords(":memory:")
    for table in (tables.SESSIONS, tables.PARTICIPATION):
        for number, document in enumerate(chained_world().find(table, {"session": FIRST})):
            records.put(table, FIRST if table == tables.SESSIONS else str(number), document)
    for client in chained_world().find(tables.CLIENTS):
        records.put(tables.CLIENTS, client["client"], client)
    reported: list[Document] = [{}, {"reason": "validate raised"}, {"notes": ["a metric was too large"]}]
    for at, data in enumerate(reported):
        validated: Document = {"model": "m", "metrics": {}, "reason": "", **data}
        document = event("model.validated", float(at), client=RAISES, **validated) | {"session": FIRST}
        records.put(tables.EVENTS, str(at), document)
    shown = show(records, "/clients", f"?session={FIRST}&client={RAISES}")
    heads = [element for element in shown.elements() if getattr(element, "className", None) == "event"]
    assert len(heads) == 2 and "validate raised" in shown.text and "a metric was too large" in shown.text


def test_an_evaluators_card_shows_its_validations_of_this_session() -> None:
    shown = show(chained_world(), "/clients", f"?session={FIRST}&client=evaluator")
    assert "evaluator in first · finished" in shown.text and "accuracy 0.1562" in shown.text
    heads = [element for element in shown.elements() if getattr(element, "className", None) == "event"]
    assert len(heads) == ROUNDS + 1


@pytest.mark.parametrize("path", ["/clients", "/box", "/timeline"])
def test_links_to_a_client_lead_to_its_part_in_the_same_session(path: str) -> None:
    links = [link for link in show(chained_world(), path, f"?session={FIRST}").links if "client=" in link]
    assert links
    assert all(f"session={FIRST}" in link for link in links)
