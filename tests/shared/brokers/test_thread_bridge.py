"""Callbacks on their way to another thread: one wake-up for many callbacks, none lost, order kept."""

from __future__ import annotations

import threading
from functools import partial

from fedmq.brokers.rabbitmq.thread_bridge import Callback, ThreadBridge
from fedmq.scheduler import ThreadScheduler


def test_callbacks_put_together_cross_with_one_wake_up() -> None:
    woken: list[Callback] = []
    seen: list[int] = []
    crossing = ThreadBridge(woken.append)
    for number in range(100):
        crossing.put(partial(seen.append, number))
    assert len(woken) == 1
    woken.pop()()
    assert seen == list(range(100))
    crossing.put(partial(seen.append, 100))
    assert len(woken) == 1


def test_a_callback_that_is_put_while_the_other_side_runs_is_passed_too() -> None:
    woken: list[Callback] = []
    seen: list[str] = []
    crossing = ThreadBridge(woken.append)
    crossing.put(lambda: crossing.put(partial(seen.append, "second")))
    woken.pop()()
    assert seen == []
    woken.pop()()
    assert seen == ["second"]


def test_nothing_is_lost_or_reordered_between_two_threads() -> None:
    scheduler = ThreadScheduler()
    crossing = ThreadBridge(scheduler.post)
    seen: list[int] = []

    def fill() -> None:
        for number in range(20_000):
            crossing.put(partial(seen.append, number))
        crossing.put(scheduler.stop)

    thread = threading.Thread(target=fill)
    thread.start()
    scheduler.run()
    thread.join()
    scheduler.close()
    assert seen == list(range(20_000))
