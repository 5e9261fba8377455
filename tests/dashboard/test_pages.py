"""Each page on a real session with troubles, and on records with nothing in them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from dashboard.events import event
from dashboard.rendering import show
from dashboard.small_world import FAILED_ROUND, FAILING, REJECTED, REJECTED_ROUND, ROUNDS, small_world
from fedmq.records.sqlite import SqliteRecords
from fedmq_dashboard.app import PAGES
from fedmq_schemas import records as tables
from fedmq_schemas.policy import Policy
from fedmq_schemas.records import OUTCOMES

PATHS = [page.path for page in PAGES]


def unpacked(packed: dict[str, Any]) -> np.ndarray[Any, Any]:
    values = np.frombuffer(base64.b64decode(packed["bdata"]), np.dtype(packed["dtype"]))
    return values.reshape([int(size) for size in packed["shape"].split(",")]) if "shape" in packed else values


@pytest.mark.parametrize("path", PATHS)
def test_a_page_with_nothing_to_show_says_why(path: str) -> None:
    shown = show(SqliteRecords(":memory:"), path)
    sentences = [e for e in shown.elements() if getattr(e, "className", None) == "empty"]
    assert sentences
    assert not shown.graphs


@pytest.mark.parametrize("path", PATHS)
def test_every_plot_has_a_sentence_and_every_table_a_caption(path: str) -> None:
    shown = show(small_world(), path)
    kinds = [type(element).__name__ for element in shown.elements()]
    assert kinds.count("Figcaption") == kinds.count("Graph")
    assert kinds.count("Caption") == kinds.count("Table")
    assert all(trace for figure in shown.graphs.values() for trace in figure["data"])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "search",
    [
        "?session=unknown",
        "?metric=unknown&x=unknown&log=unknown",
        "?round=9999&page=9999",
        "?client=no&model=no&sort=no",
    ],
)
def test_an_address_with_wrong_values_is_answered(path: str, search: str) -> None:
    assert show(small_world(), path, search).text


@pytest.mark.parametrize("path", PATHS)
def test_a_session_that_has_just_been_queued_is_shown(path: str) -> None:
    records = SqliteRecords(":memory:")
    session = {
        "session": "s",
        "name": "",
        "state": "queued",
        "waiting": "",
        "waiting_until": None,
        "reason": "",
        "policy": Policy().model_dump(mode="json"),
        "seed": None,
        "random_seed": 1,
        "position": 0,
        "stop_after_round": False,
        "created_at": 1.0,
        "ended_at": None,
    }
    records.put(tables.SESSIONS, "s", session)
    assert show(records, path).text


# -- live -----------------------------------------------------------------------------------------------------------


def test_live_shows_progress_outcomes_curves_and_events() -> None:
    shown = show(small_world(), "/")
    assert f"{ROUNDS} of {ROUNDS} rounds" in shown.text
    assert set(shown.graphs) == {"alliance", "outcomes", "curves"}
    assert "18 accepted, 1 rejected, 1 failed" in shown.text
    assert "session.finished" in shown.text and "update.accepted" not in shown.text


def test_live_shows_how_far_an_open_round_is() -> None:
    records = small_world()
    session = records.find(tables.SESSIONS)[0]
    running = SqliteRecords(":memory:")
    running.put(tables.SESSIONS, session["session"], session | {"state": "running"})
    attempt = records.find(tables.ATTEMPTS, {"round": 1})[0]
    running.put(tables.ATTEMPTS, "a", attempt)
    for client in records.find(tables.CLIENTS):
        running.put(tables.CLIENTS, client["client"], client)
    events = list(records.find(tables.EVENTS, {"round": 1, "name": ["round.planned", "update.accepted"]}))
    events = [event for event in events if event["client"] in (None, "client1", "client2")]
    shown = show(running, "/", events=events)
    assert "Round 1: 2 of 5 have answered" in shown.text and "not yet: client3, client4, client5" in shown.text
    assert "clients: 1 here, 3 working, 2 accepted." in shown.text


def test_the_log_can_be_narrowed_to_troubles() -> None:
    text = show(small_world(), "/", "?log=troubles").text
    assert "update.failed" in text and "update.rejected" in text and "round.committed" not in text


@pytest.mark.parametrize("axis", ["round", "hours", "bytes"])
def test_curves_have_a_band_over_clients_and_a_test_line(axis: str) -> None:
    curves = show(small_world(), "/", f"?x={axis}").graphs["curves"]
    named = {trace["name"]: trace for trace in curves["data"] if "name" in trace}
    assert {"all clients", "middle half", "clients' median", "test set"} <= set(named)
    x = named["test set"]["x"]
    assert len(x) == ROUNDS + 1 and x == sorted(x) and x[0] == 0


def test_no_mark_of_an_axis_lies_between_two_rounds() -> None:
    graphs = show(small_world(), "/", "?x=round").graphs
    for name in ("outcomes", "curves"):
        axis = graphs[name]["layout"]["xaxis"]
        assert (axis["dtick"], axis["tickformat"]) == (1, "d")
    assert "dtick" not in show(small_world(), "/", "?x=hours").graphs["curves"]["layout"]["xaxis"]


def test_what_trainers_reported_can_be_plotted_too() -> None:
    shown = show(small_world(), "/", "?metric=training loss")
    assert "training loss" in shown.controls["metric"].options
    assert shown.graphs["curves"]["data"]


# -- table and box --------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_model_newest_first() -> None:
    rows = show(small_world(), "/table").rows("means")
    assert [row[2] for row in rows] == ["4", "3", "2", "1", "0"]
    assert all(row[1] == rows[0][1] and row[3] != "–" for row in rows)


def test_columns_can_be_chosen_and_sorted_by() -> None:
    shown = show(small_world(), "/table", "?columns=loss&sort=loss&order=ascending")
    losses = [float(row[3]) for row in shown.rows("means")]
    assert losses == sorted(losses)
    assert len(shown.rows("means")[0]) == 4


def test_a_box_for_each_model_with_the_mean_as_a_line() -> None:
    box, mean = show(small_world(), "/box").graphs["box"]["data"]
    assert box["type"] == "box" and mean["name"] == "Mean"
    assert box["x"] == mean["x"] == [0, 1, 2, 3, 4]
    for low, first, middle, third, high in zip(
        *(box[name] for name in ("lowerfence", "q1", "median", "q3", "upperfence")), strict=True
    ):
        assert low <= first <= middle <= third <= high


def test_a_click_on_a_box_shows_its_participants() -> None:
    page = next(page for page in PAGES if page.path == "/box")
    mean = show(small_world(), "/box").graphs["box"]["data"][1]
    chosen = page.clicked("box", {"customdata": mean["customdata"][2], "x": 2})
    assert chosen == {"model": mean["customdata"][2]}
    shown = show(small_world(), "/box", f"?model={chosen['model']}")
    assert "round 2, 5 participants" in shown.text
    assert "client5" in shown.text and "evaluator" not in shown.text


# -- clients --------------------------------------------------------------------------------------------------------


def test_the_matrix_shows_what_became_of_each_task() -> None:
    heat = show(small_world(), "/clients", "?order=name").graphs["matrix"]["data"][0]
    outcomes = unpacked(heat["z"])
    assert heat["y"] == [f"client{number}" for number in range(1, 6)] and heat["x"] == [1, 2, 3, 4]
    assert OUTCOMES[int(outcomes[2, FAILED_ROUND - 1])] == "failed"
    assert OUTCOMES[int(outcomes[3, REJECTED_ROUND - 1])] == "rejected"
    assert np.count_nonzero(outcomes) == 2


def test_troubled_clients_come_first() -> None:
    heat = show(small_world(), "/clients").graphs["matrix"]["data"][0]
    assert set(heat["y"][:2]) == {FAILING, REJECTED}


def test_a_click_on_a_failed_cell_leads_to_the_traceback() -> None:
    page = next(page for page in PAGES if page.path == "/clients")
    assert page.clicked("matrix", {"x": FAILED_ROUND, "y": FAILING}) == {"client": FAILING, "round": FAILED_ROUND}
    shown = show(small_world(), "/clients", f"?client={FAILING}&round={FAILED_ROUND}")
    trace = next(e for e in shown.elements() if getattr(e, "className", None) == "traceback")
    assert "RuntimeError: the scanner is off <b>today</b>" in trace.children


def test_each_client_shows_its_last_trouble_with_a_link() -> None:
    shown = show(small_world(), "/clients")
    row = next(row for row in shown.rows("everybody") if row[0] == FAILING)
    assert row[4] == "3 of 4" and "the scanner is off" in row[-1]
    assert any(f"client={FAILING}" in link and f"round={FAILED_ROUND}" in link for link in shown.links)


def test_shares_add_up_and_name_who_has_half() -> None:
    shown = show(small_world(), "/clients")
    assert sum(shown.graphs["shares"]["data"][0]["x"]) == pytest.approx(100)
    assert "2 clients of 5 together have half of the weight" in shown.text


# -- timeline, models, sessions, system -----------------------------------------------------------------------------


def test_the_timeline_shows_each_step_of_each_client() -> None:
    shown = show(small_world(), "/timeline", f"?round={FAILED_ROUND}")
    named = {trace["name"]: trace for trace in shown.graphs["waterfall"]["data"]}
    assert {"trained", "fetched the model", "uploaded", "folded", "failed"} <= set(named)
    assert named["failed"]["y"] == [FAILING]
    assert {row[0] for row in shown.rows("delays")} == {row[0] for row in shown.rows("paces")}


def test_the_trail_is_a_tree_and_its_models_are_described() -> None:
    shown = show(small_world(), "/models")
    assert "5 models in 1 line, up to 4 rounds deep" in shown.text
    assert "fedmq model verify" in shown.text and "safetensors" in shown.text and "ledger.json" in shown.text
    seed = next(model for model in small_world().find(tables.MODELS) if model["session"] is None)
    assert "none: a seed" in show(small_world(), "/models", f"?model={seed['model']}").text


def test_a_session_alone_has_nothing_to_differ_from() -> None:
    shown = show(small_world(), "/sessions")
    assert "Choose at least two sessions" in shown.text
    assert len(shown.graphs["compare"]["data"]) == 1


def test_the_system_page_shows_queues_and_stores_that_the_reducer_saw() -> None:
    shown = show(small_world(), "/system")
    queues = {row[0]: row[1:] for row in shown.rows("queues")}
    assert set(queues) >= {"sandbox.reducer.v1", "sandbox.combiner.combiner1.v2", "sandbox.records.v1"}
    assert "models" in shown.text and "are free on the disk" in shown.text
    assert "None: every message could be read" in shown.text


def test_dead_letters_are_shown_with_their_reasons() -> None:
    records = SqliteRecords(":memory:")
    data = {"reason": "not msgpack", "inbox": "a.reducer.v1", "key": "control.start"}
    records.put(tables.EVENTS, "1", event("message.refused", 1.0, None, **data))
    text = show(records, "/system").text
    assert "not msgpack" in text and "control.start" in text


def test_a_model_that_was_let_go_is_shown_as_such_and_offers_no_download() -> None:
    records = SqliteRecords(":memory:")
    for number, kept in ((1, False), (2, True)):
        model = {
            "model": f"m{number}",
            "session": "s",
            "round": number,
            "parent": None,
            "ledger": None,
            "metrics": {},
            "kept": kept,
            "created_at": float(number),
            "ref": {"key": f"models/m{number}", "size": 9, "sha256": "a" * 64},
        }
        records.put(tables.MODELS, f"m{number}", model)
    gone, there = (show(records, "/models", f"?model=m{number}") for number in (1, 2))
    assert "let go" in gone.text and "fedmq model get" not in gone.text
    assert "let go" not in there.text and "fedmq model get m2" in there.text
    markers = next(trace for trace in there.graphs["trail"]["data"] if trace.get("name") == "model")
    assert dict(zip(markers["customdata"], markers["marker"]["symbol"], strict=True)) == {
        "m1": "circle-open",
        "m2": "circle",
    }
