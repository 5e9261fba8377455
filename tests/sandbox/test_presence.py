"""Who is present in a sandbox: the clients that this process runs, and nobody else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from fedmq_sandbox import ConfigError, Sandbox
from fedmq_schemas.messages import Envelope, Event
from sandbox.commands import REGRESSION


def _sandbox(**options: Any) -> Sandbox:
    return Sandbox(REGRESSION, **{"clients": 2, "workers": 1, "random_seed": 3, "rounds": 2, **options})


def test_nobody_vanishes_while_the_process_is_too_busy_for_heartbeats() -> None:
    busy, names = [0.0], []

    def skip_a_minute(_: Envelope, event: Event) -> None:
        names.append(event.name)
        if event.name == "round.planned":
            busy[0] += 60.0

    box = _sandbox(on_event=skip_a_minute)
    box.scheduler.now = lambda: time.monotonic() + busy[0]
    with box:
        assert box.run()["state"] == "finished"
    assert {"client.vanished", "combiner.vanished"} & set(names) == set()
    assert names.count("round.planned") == 2, "no part was planned again"


def test_combiners_that_a_resumed_sandbox_does_not_start_are_not_waited_for(tmp_path: Path) -> None:
    with _sandbox(state_dir=tmp_path, combiners=3, rounds=3, timeout=20) as box:
        for _ in box.rounds():
            break
    with _sandbox(state_dir=tmp_path, combiners=1, rounds=3, evaluator=False, timeout=20) as box:
        assert box.run()["state"] == "finished"
        assert [each["combiner"] for each in box.records.find("combiners", {"state": "present"})] == ["combiner1"]
        assert all(each.seconds < 20 for each in box.rounds()), "no round waits for the deadline of a part that is lost"


@pytest.mark.parametrize(
    ("options", "reason", "remedy"),
    [
        ({"clients_required": 3}, "this sandbox has 2 clients.* Give it 3 with --clients", {"clients": 3}),
        (
            {"policy": {"clients": {"where": {"site": "north"}}}},
            "its label site is not set, and the policy wants 'north'.* Label the clients with --label",
            {"labels": {"site": ["north"]}},
        ),
        (
            {"policy": {"clients": {"exclude": ["client1"]}}, "clients_required": 2},
            "lets 1 of this sandbox's 2 clients take part.* client1: the policy excludes it.* change .* clients.exclude",
            {"policy": {}},
        ),
    ],
)
def test_clients_that_nobody_else_could_start_are_not_waited_for(
    options: dict[str, Any], reason: str, remedy: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=reason):
        _sandbox(**options)
    with _sandbox(**{**options, **remedy, "workers": 0, "rounds": 1}) as box:
        assert box.run()["state"] == "finished"
