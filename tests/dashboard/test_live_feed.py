"""The feed between threads, and the news stream."""

from __future__ import annotations

import json
import threading

import pytest

from dashboard.events import event
from fedmq_dashboard import routes
from fedmq_dashboard.live import Live

EVENT = event("client.joined", 1.0, None, "a")


def test_who_waits_is_woken_by_news() -> None:
    live = Live()
    seen, woken = live.revisions, []
    waiter = threading.Thread(target=lambda: woken.append(live.wait(seen, 30)))
    waiter.start()
    live.apply([EVENT])
    waiter.join(30)
    assert woken == [{"any": 1, "rounds": 1}]


def test_closing_lets_everybody_go() -> None:
    live = Live()
    woken: list[object] = []
    waiter = threading.Thread(target=lambda: woken.append(live.wait(live.revisions, 30)))
    waiter.start()
    live.close()
    waiter.join(30)
    assert woken == [None]


def test_a_trouble_is_news_once() -> None:
    live = Live()
    live.tell_trouble("The records can't be read now.")
    first = live.revisions
    live.tell_trouble("The records can't be read now.")
    assert first == live.revisions == {"any": 1, "rounds": 1}


def test_the_stream_says_where_it_is_then_news_then_that_they_have_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEAST_SECONDS", "SETTLED_SECONDS", "CLOCK_SECONDS"):
        monkeypatch.setattr(routes, name, 0.0)
    live = Live()
    stream = routes.news(live)
    reported = [next(stream)]
    live.apply([EVENT])
    reported += [next(stream), next(stream), next(stream)]
    live.close()
    assert list(stream) == []
    assert [json.loads(line.removeprefix("data: ")) for line in reported] == [
        {"any": "0+", "rounds": "0+", "clock": "0"},
        {"any": "1", "rounds": "1", "clock": "0"},
        {"any": "1+", "rounds": "1+", "clock": "0"},
        {"any": "1+", "rounds": "1+", "clock": "1"},
    ]
