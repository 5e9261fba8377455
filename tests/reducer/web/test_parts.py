"""Parts of the REST API that a running alliance would not show: ties, extremes, headers, readers that fall behind."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from starlette.requests import Request

from fedmq.errors import ConfigError, NotFound
from fedmq.records.sqlite import SqliteRecords
from fedmq_reducer.members.eligibility import explain
from fedmq_reducer.selection import best_model, has_own_tensors
from fedmq_reducer.web.api import feed as feeds
from fedmq_reducer.web.api.access import is_browser
from fedmq_reducer.web.api.answers import Json, page
from fedmq_reducer.web.api.feed import EventStream
from fedmq_reducer.web.api.open_round import absence
from fedmq_schemas import records as tables
from fedmq_schemas.messages import Envelope, Event


def test_numbers_that_json_lacks_are_texts_and_the_answer_still_parses() -> None:
    body = Json({"loss": float("nan"), "deep": [{"x": float("inf")}, -float("inf")], "fine": 1.5}).body
    assert json.loads(bytes(body)) == {"loss": "NaN", "deep": [{"x": "Infinity"}, "-Infinity"], "fine": 1.5}


# -- pages ----------------------------------------------------------------------------------------------------------


def _pages(records: SqliteRecords, limit: int) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        answer = page(records, tables.EVENTS, {}, order="at", limit=limit, after=after)
        found += [item["id"] for item in answer["items"]]
        after = answer["next"]
        if after is None:
            return found


@pytest.mark.parametrize("limit", range(1, 9))
def test_pages_lose_nothing_and_repeat_nothing_where_items_share_a_time(limit: int) -> None:
    records = SqliteRecords(":memory:")
    times = [1.0, 1.0, 1.0, 2.5, 3.0, 3.0, 4.0]
    for number, at in enumerate(times):
        records.put(tables.EVENTS, f"e{number}", {"id": f"e{number}", "at": at})
    assert sorted(_pages(records, limit)) == [f"e{number}" for number in range(len(times))]


def test_a_made_up_cursor_is_a_wrong_parameter() -> None:
    with pytest.raises(ConfigError, match="not the `next` of a page"):
        page(SqliteRecords(":memory:"), tables.EVENTS, {}, order="at", limit=1, after="1.2.3")


# -- browsers -------------------------------------------------------------------------------------------------------


def _request(**headers: str) -> Request:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": named})


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"accept": "*/*"}, False),
        ({"accept": "application/json"}, False),
        ({"accept": "application/json, text/html;q=0.5"}, False),
        ({"accept": "text/html"}, True),
        ({"accept": "text/plain;q=0.2, TEXT/HTML;q=0.9"}, True),
        ({"accept": "image/png,*/*;q=0.1"}, True),
        ({"accept": "application/xhtml+xml"}, True),
        ({"accept": "text/html;q=much"}, True),
        ({"sec-fetch-dest": "document"}, True),
        ({"origin": "null"}, True),
    ],
)
def test_browsers_are_distinguished_from_programs(headers: dict[str, str], expected: bool) -> None:
    assert is_browser(_request(**headers)) is expected


# -- the feed -------------------------------------------------------------------------------------------------------


def _envelope(number: int) -> Envelope:
    return Envelope(kind="event", id=f"e{number}", alliance="a", sender="s", sent_at=float(number))


def _push(feed: EventStream, number: int) -> None:
    feed.push(_envelope(number), Event(name="round.committed", data={"seconds": 2.0}))


def test_a_reader_that_falls_too_far_behind_has_to_begin_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "KEPT", 3)

    async def read() -> tuple[list[str], bool]:
        feed = EventStream()
        _push(feed, 0)
        with feed.subscribe() as subscription:
            for number in range(1, 6):
                _push(feed, number)
            await asyncio.sleep(0)
            received = [await subscription.next(1.0) for _ in range(3)]
            assert await subscription.next(0.001) is None
            return [item["id"] for item in (*subscription.newest, *(one for one in received if one))], subscription.lost

    assert asyncio.run(read()) == (["e0", "e1", "e2", "e3"], True)


def test_a_reader_that_has_left_receives_nothing_more() -> None:
    async def leave() -> None:
        feed = EventStream()
        with feed.subscribe():
            pass
        _push(feed, 1)
        assert feed.counts["round.committed"] == 1
        assert feed.round_seconds[0] == 2.0

    asyncio.run(leave())


# -- choosing and explaining ----------------------------------------------------------------------------------------


def _model(round: int, **means: float) -> dict[str, Any]:
    return {"model": f"m{round}", "round": round, "metrics": {name: {"mean": mean} for name, mean in means.items()}}


def test_the_best_model_is_the_earliest_of_equal_ones_and_never_the_seed() -> None:
    models = [_model(0, accuracy=0.99), _model(1, accuracy=0.5), _model(2, accuracy=0.9), _model(3, accuracy=0.9)]
    best = best_model(models, None, None)
    assert (best["model"], best["best"]) == ("m2", {"metric": "accuracy", "mode": "max", "value": 0.9})


def test_without_a_metric_the_evaluators_word_counts_first() -> None:
    models = [_model(1, loss=0.1, **{"test/mse": 5.0, "mae": 1.0}), _model(2, **{"test/loss": 0.3, "accuracy": 0.4})]
    assert best_model(models, None, None)["best"]["metric"] == "accuracy"
    assert best_model([_model(1, accuracy=0.5, **{"test/accuracy": 0.4})], None, None)["best"]["value"] == 0.4
    assert best_model([_model(1, **{"mae": 1.0, "test/mse": 5.0})], None, None)["best"]["metric"] == "test/mse"


def test_a_test_score_of_local_tensors_that_no_client_has_does_not_choose_the_best_model() -> None:
    models = [_model(1, accuracy=0.4, **{"test/accuracy": 0.9}), _model(2, accuracy=0.8, **{"test/accuracy": 0.2})]
    best = best_model(models, None, None, own=has_own_tensors({"tensors": {"local": ["head/*"]}}))
    assert (best["model"], best["best"]) == ("m2", {"metric": "accuracy", "mode": "max", "value": 0.8})
    assert best_model(models, None, None, own=has_own_tensors({"tensors": {"local": []}}))["model"] == "m1"
    assert best_model(models, "test/accuracy", None, own=True)["model"] == "m1"
    assert best_model([_model(1, **{"test/accuracy": 0.9})], None, None, own=True)["model"] == "m1"


def test_a_metric_that_is_not_known_to_grow_with_quality_is_best_small_by_default() -> None:
    models = [_model(1, mae=3.0), _model(2, mae=2.0)]
    assert best_model(models, "mae", None)["model"] == "m2"
    assert best_model(models, "mae", "max")["model"] == "m1"


def test_a_metric_that_is_named_like_an_accuracy_is_best_large_by_default() -> None:
    models = [_model(1, val_acc=0.1), _model(2, val_acc=0.9), _model(3, val_acc=0.5)]
    best = best_model(models, None, None)
    assert (best["model"], best["best"]) == ("m2", {"metric": "val_acc", "mode": "max", "value": 0.9})


def test_a_duration_does_not_choose_the_best_model_where_a_score_can() -> None:
    assert best_model([_model(1, duration=9.0, f1=0.9), _model(2, duration=1.0, f1=0.1)], None, None)["model"] == "m1"


def test_a_metric_that_nobody_has_names_those_that_there_are() -> None:
    with pytest.raises(NotFound, match="there are accuracy, loss"):
        best_model([_model(1, accuracy=1.0, loss=0.0)], "f1", None)


CLIENT: dict[str, Any] = {
    "client": "a",
    "state": "present",
    "tasks": ["train"],
    "combiner": "c1",
    "labels": {},
    "package": None,
}
SESSION = {"session": "s", "state": "running", "waiting": "", "policy": {}}
ATTEMPT = {"round": 2, "attempt": 1, "plans": [{"clients": ["a", "b"], "voided": False}]}


@pytest.mark.parametrize(
    ("client", "session", "attempt", "answer", "expected"),
    [
        ({}, {}, ATTEMPT, None, "round 2, attempt 1: asked, and not yet answered"),
        (
            {},
            {"state": "failed"},
            ATTEMPT,
            None,
            "round 2, attempt 1: asked, and had not answered when the session ended (failed)",
        ),
        ({}, {}, ATTEMPT, {"outcome": "accepted", "reason": ""}, "round 2, attempt 1: accepted"),
        (
            {},
            {},
            ATTEMPT,
            {"outcome": "rejected", "reason": "NaN in w"},
            "round 2, attempt 1: rejected: NaN in w",
        ),
        ({"client": "x"}, {}, ATTEMPT, None, "it was not drawn for round 2, or joined after the draw"),
        ({"tasks": ["validate"]}, {}, None, None, "it validates only"),
        ({}, {}, None, None, "no round is planned yet; the session is running"),
        ({"client": "a"}, {}, {**ATTEMPT, "plans": [{"clients": ["a"], "voided": True}]}, None, "it was not drawn"),
    ],
)
def test_a_clients_part_is_explained_in_a_sentence(
    client: dict[str, Any],
    session: dict[str, Any],
    attempt: dict[str, Any] | None,
    answer: dict[str, Any] | None,
    expected: str,
) -> None:
    assert explain({**CLIENT, **client}, {**SESSION, **session}, attempt, answer)["why"].startswith(expected)


GONE = {**CLIENT, "state": "away", "last_seen": 60.0}


@pytest.mark.parametrize(
    ("combiner", "refused_at", "expected"),
    [
        ("present", None, "its combiner, c1, receives no messages from it, the last at 00:01:00 UTC"),
        ("away", None, "its combiner, c1, is away"),
        (None, None, "its combiner, c1, is away"),
        ("present", 61.0, "it was refused: the client speaks version 2"),
        ("present", 59.0, "its combiner, c1, receives no messages from it, the last at 00:01:00 UTC"),
    ],
)
def test_why_a_client_is_away_is_stated(combiner: str | None, refused_at: float | None, expected: str) -> None:
    refusal = None if refused_at is None else {"at": refused_at, "data": {"reason": "the client speaks version 2"}}
    assert absence(GONE, None if combiner is None else {"state": combiner}, refusal) == expected


def test_a_client_that_left_an_open_round_is_named_as_what_the_round_waits_for() -> None:
    away = "its combiner, c1, is away"
    asked = f"round 2, attempt 1: asked, and not yet answered; {away}: the round waits for it until its deadline"
    assert explain(GONE, SESSION, ATTEMPT, None, away)["why"] == asked
    assert explain({**GONE, "client": "x"}, SESSION, ATTEMPT, None, away)["why"] == away
    answered = {"outcome": "accepted", "reason": ""}
    assert explain(GONE, SESSION, ATTEMPT, answered, away)["why"] == "round 2, attempt 1: accepted"


class _Collecting:
    """An event of which the name can't be read without a garbage collection."""

    session = round = client = combiner = None
    data: ClassVar[dict[str, Any]] = {}

    @property
    def name(self) -> str:
        gc.collect()
        return "round.planned"


def _subscriptions() -> int:
    return sum(type(found) is feeds.Subscription for found in gc.get_objects())


@pytest.mark.timeout(30)
def test_a_reader_that_is_collected_as_garbage_while_an_event_is_pushed_blocks_nothing() -> None:
    """As readers do that leave while the server is sending."""

    async def read(feed: EventStream) -> AsyncIterator[None]:
        with feed.subscribe() as subscription:
            while await subscription.next(10.0) is not None:
                yield

    async def leave() -> int:
        feed = EventStream()
        reader: Any = read(feed)
        asyncio.get_running_loop().call_soon(_push, feed, 1)
        await anext(reader)
        gc.disable()
        cycle = [reader]
        cycle.append(cycle)
        del reader, cycle
        telling = threading.Thread(target=feed.push, args=(_envelope(2), _Collecting()), daemon=True)
        telling.start()
        await asyncio.to_thread(telling.join, 10.0)
        assert not telling.is_alive(), "it waits for itself"
        deadline = asyncio.get_running_loop().time() + 10.0
        while (left := _subscriptions()) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        return left

    gc.freeze()  # each collection below then visits what this test makes, and not all that was imported
    try:
        assert asyncio.run(leave()) == 0
    finally:
        gc.unfreeze()
        gc.enable()
